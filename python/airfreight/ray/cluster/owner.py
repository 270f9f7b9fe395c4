"""
The owner of one DAG run's values: a detached actor that submits the run's functions as Ray tasks.

Who submits a task owns what it returns, and a value lives as long as its owner. So everything that is to outlive a
runner is here, and killing the owner frees all of it at once. Its methods are called by runners and drivers of other
versions of Airfreight, older and newer: they take and give plain data, and keep their names and meaning.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from . import place, running
from .call import Call
from .problem import Problem

if TYPE_CHECKING:
    Record = dict[str, Any]

#: Without any use for so long, an owner ends.
_TTL_SECONDS = 7 * 24 * 3600.0
_LOOK_SECONDS = 20.0


class Owner:
    """
    One DAG run in the cluster.

    :param name: the actor's, which everything knows that refers to its values.
    :param info: whose run it is: ``deployment``, ``dag_id``, ``run_id``.
    """

    def __init__(self, name: str, info: Record) -> None:
        self.name = name
        self.info = info
        self.generation = os.urandom(8).hex()
        self.values: dict[str, running.Value] = {}
        self._calls: dict[str, Call] = {}
        self._seq = 0
        self._news = asyncio.Event()
        self._tasks: set[Any] = set()
        self._importing: dict[str, Any] = {}
        self._used_at = time.time()
        self._ttl = _TTL_SECONDS
        self._watched = False

    # What is asked of it as a whole

    async def about(self) -> Record:
        """Who it is and what it holds."""
        if not self._watched:
            self._watched = True
            self._spawn(self._end_when_unused())
        values = [value for value in self.values.values() if value.ref is not None]
        return {
            "name": self.name,
            "generation": self.generation,
            "info": self.info,
            "used_at": int(self._used_at * 1000),
            "values": len(values),
            "nbytes": sum(value.facts.get("nbytes", 0) for value in values),
            "running": sum(not call.is_over for call in self._calls.values()),
        }

    async def events(self, generation: str, since: int, wait: float) -> Record:
        """
        What has changed since.

        :param generation: of which owner ``since`` is a number; another one's counts from the beginning.
        :returns: ``generation``, ``seq``, and the states that have changed, each once.
        """
        if generation != self.generation:
            since = 0
        if self._seq <= since:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), wait)
        changed = sorted((call for call in self._calls.values() if call.seq > since), key=lambda call: call.seq)
        return {"generation": self.generation, "seq": self._seq, "events": [call.state() for call in changed]}

    # Calls

    async def call(self, body: bytes, wait: float) -> bytes:
        """
        Begins a call, or finds the one that has begun.

        :param body: the call as JSON; see docs/design/runner.md.
        :param wait: how long it may take to answer, in seconds, if the call isn't over before.
        :returns: its state as JSON.
        """
        self._used_at = time.time()
        wanted = json.loads(body)
        call = self._calls.get(wanted["id"])
        if call is None:
            call = self._calls[wanted["id"]] = Call(self.name, wanted, self._changed)
            self._ttl = float(wanted.get("ttl_seconds") or self._ttl)
            call.task = self._spawn(self._run(call, wanted))
        elif call.nonce != wanted["nonce"]:
            raise Problem(
                "Conflict",
                f"call {call.id} exists, and it isn't this one",
                "another Airflow with the same DAG and run uses this cluster: give each its own deployment name",
            )
        await call.over(wait)
        return call.state_json()

    async def state(self, call_id: str, seen: int, wait: float) -> bytes | None:
        """The state of a call as JSON, once its version is higher than ``seen``; ``None``: there is no such call."""
        call = self._calls.get(call_id)
        if call is None:
            return None
        await call.newer(seen, wait)
        return call.state_json()

    async def calls(self) -> list[Record]:
        """The states of all calls, without what can be long."""
        return [call.brief() for call in self._calls.values()]

    async def cancel(self, call_id: str) -> bool | None:
        """Interrupts a call, after three seconds by force; ``False``: it is over; ``None``: there is none."""
        call = self._calls.get(call_id)
        if call is None:
            return None
        if call.is_over:
            return False
        call.cancelled = True
        self._spawn(running.cancel(call))
        return True

    async def started(self, call_id: str, submitted: int, node_id: str, pid: int, start_time: int) -> None:
        """A worker has begun with a call."""
        call = self._calls.get(call_id)
        if call is not None and call.submitted == submitted and not call.is_over:
            call.pid = pid
            call.change(status="RUNNING", node_id=node_id, start_time=start_time)

    # Values

    async def refs(self, keys: list[str], generation: str) -> list[Any]:
        """
        The values of keys, for another owner, a job or a runner.

        :returns: for each ``None`` if it is gone, else ``{"shape", "refs"}``: the shape is that of
            :class:`.keeping.Inputs`. The references are within, so nobody fetches what is only passed on.
        """
        self._used_at = time.time()
        return [self._refs(key, generation) for key in keys]

    async def look(self, key: str, generation: str) -> Record | None:
        """What is known of a value; a generation of ``""`` is any."""
        value = self._value(key, generation)
        return None if value is None else {"owner": self.name, "generation": self.generation, "key": key, **value.facts}

    async def adopt(self, key: str, refs: list[Any], facts: Record) -> Record:
        """
        Takes over a value that a job has put into Ray's store; it is copied, since it lives no longer than the job.

        :param refs: the reference, within a list; an empty one for the whole of which the parts have been adopted.
        :param facts: ``nbytes``, ``type``, ``preview``, ``form``.
        """
        self._used_at = time.time()
        if key not in self.values and not refs:
            # The parts are there.
            self.values[key] = running.whole(key, facts)
        if key not in self.values:
            if key not in self._importing:
                self._importing[key] = self._spawn(self._copy(key, refs[0], facts))
            await asyncio.shield(self._importing[key])
        return {"owner": self.name, "generation": self.generation, "key": key, **self.values[key].facts}

    async def room(self, nbytes: int) -> list[Any]:
        """
        Makes an object in Ray's store for a file of so many bytes; see :mod:`.room`.

        :returns: the reference, within a list. It isn't kept here: what nobody completes goes with who asked for it.
        """
        self._used_at = time.time()
        told, ref = place.at_head(running.remote("emptied")).remote(nbytes)
        await told
        return [ref]

    async def take(self, key: str, source: Record) -> Record:
        """
        Makes a value of an object file that has arrived.

        :param source: ``path``, a file on the head; or ``refs``, the reference of what :meth:`room` has made and who
            called it has filled, within a list, and ``facts``.
        """
        self._used_at = time.time()
        if key not in self.values:
            if key not in self._importing:
                self._importing[key] = self._spawn(self._import(key, source))
            await asyncio.shield(self._importing[key])
        return {"owner": self.name, "generation": self.generation, "key": key, **self.values[key].facts}

    async def drop(self, key: str) -> bool:
        """Forgets a value; Ray frees it when nobody uses it any more."""
        value = self.values.pop(key, None)
        if value is None:
            return False
        for part in value.part_keys:
            self.values.pop(part, None)
        return True

    # Inside

    async def _run(self, call: Call, wanted: Record) -> None:
        try:
            await running.run(self, call, wanted)
        except running.InputLost as lost:
            call.finish("FAILED", "INPUT_LOST", str(lost))
        except Exception as error:  # noqa: BLE001 - whatever Ray says of it is what the task is told
            running.fail(call, error)
        finally:
            # What is to stay is a value now; what isn't must not be held by the call's state.
            call.refs = call.actor = None
            self._used_at = time.time()

    def _changed(self, call: Call) -> None:
        self._seq += 1
        call.seq = self._seq
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _value(self, key: str, generation: str) -> running.Value | None:
        return self.values.get(key) if generation in (self.generation, "") else None

    def _refs(self, key: str, generation: str) -> Record | None:
        value = self._value(key, generation)
        if value is None:
            return None
        if value.shape is None:
            return {"shape": None, "refs": [value.ref]}
        parts = [self.values.get(part) for part in value.part_keys]
        if any(part is None for part in parts):
            return None
        return {"shape": value.shape, "refs": [part.ref for part in parts if part is not None]}

    async def _copy(self, key: str, ref: Any, facts: Record) -> None:
        try:
            told, copy = running.remote("copied").options(num_cpus=0, max_retries=0, num_returns=2).remote(ref)
            await told
            self.values[key] = running.Value(copy, facts)
        finally:
            self._importing.pop(key, None)

    async def _import(self, key: str, source: Record) -> None:
        try:
            if "refs" in source:
                self.values[key] = running.Value(source["refs"][0], source["facts"])
                return
            told, ref = place.at_head(running.remote("imported")).remote(source["path"])
            self.values[key] = running.Value(ref, json.loads(await told))
        finally:
            self._importing.pop(key, None)

    async def _end_when_unused(self) -> None:
        import ray

        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._ttl / 4))
            idle = all(call.is_over for call in self._calls.values())
            if idle and time.time() - self._used_at > self._ttl:
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _spawn(self, work: Any) -> Any:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def unpacked(wanted: Record) -> list[bytes]:
    """The packages of a call's parcel."""
    parcel = wanted["parcel"]
    if "zips" in parcel:
        return [base64.b64decode(package) for package in parcel["zips"]]
    from ray.experimental.internal_kv import _internal_kv_get

    packages = []
    for uri in parcel["uris"]:
        package = _internal_kv_get(uri.encode())
        if package is None:
            raise Problem("NotFound", f"Ray has no package {uri}", "clear the task to send it again")
        packages.append(package)
    return packages
