"""The owners that a runner knows: found by name, made when a DAG run's first call comes, followed for their events."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any

from . import place
from .owner import Owner
from .problem import Problem

if TYPE_CHECKING:
    from .events import Events

    Record = dict[str, Any]

PREFIX = "airfreight-owner-"
#: How long an owner is given to answer, beyond what a request wants to wait; on a busy head, its start takes long.
ANSWER_SECONDS = 120.0
_EVENTS_WAIT_SECONDS = 60.0
#: A new owner's first call isn't to compete with the start of processes for the next one.
_PREPARE_SECONDS = 1.0


class Owners:
    """
    All owners of this cluster.

    :param events: takes what they tell of their calls.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._handles: dict[str, Any] = {}
        self._lock = threading.Lock()
        #: When an owner was made whose first function takes one of the processes that were started ahead.
        self._used_up: float | None = -math.inf
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="airfreight-events", daemon=True).start()

    def find_all(self) -> None:
        """Picks up the owners that are there, as after a restart."""
        from ray.util import list_named_actors

        for entry in list_named_actors(all_namespaces=True):
            if entry["namespace"] == place.NAMESPACE and entry["name"].startswith(PREFIX):
                with contextlib.suppress(Problem):
                    self.find(entry["name"])

    def names(self) -> list[str]:
        self.find_all()
        with self._lock:
            return sorted(self._handles)

    def find(self, name: str) -> Any:
        """
        The owner of a name.

        :raises Problem: there is none.
        """
        handle = self._handles.get(name)
        if handle is not None:
            return handle
        import ray

        try:
            return self._keep(name, ray.get_actor(name, namespace=place.NAMESPACE))
        except ValueError:
            raise Problem(
                "Lost",
                f"the cluster has no owner {name}",
                "its DAG run's values are gone: clear the task that made the value",
            ) from None

    def make(self, wanted: Record) -> Any:
        """The owner of a call, which is made if there is none."""
        name = wanted["name"]
        handle = self._handles.get(name)
        if handle is not None:
            return handle
        if not name.startswith(PREFIX):
            raise Problem("Invalid", f"{name!r} is no name of an owner")
        import ray

        info = {key: wanted.get(key) for key in ("deployment", "dag_id", "run_id")}
        handle = (
            ray.remote(Owner)
            .options(
                name=name,
                namespace=place.NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                num_cpus=0,
                max_restarts=0,
                max_concurrency=10_000,
                resources=place.on_head(0.0001),
            )
            .remote(name, info)
        )
        self._used_up = self._used_up or time.monotonic()
        return self._keep(name, handle)

    def needs_processes(self) -> bool:
        """Whether processes are to be started for the next owner's first function; true once after one was made."""
        if self._used_up is None or time.monotonic() - self._used_up < _PREPARE_SECONDS:
            return False
        self._used_up = None
        return True

    def ask(self, name: str, method: str, *given: Any, wait: float = 0.0) -> Any:
        """
        Calls a method of an owner.

        :param wait: how long it may take beyond what an answer takes.
        :raises Problem: there is no such owner, or it doesn't answer.
        """
        return self.ask_handle(name, self.find(name), method, *given, wait=wait)

    def ask_handle(self, name: str, handle: Any, method: str, *given: Any, wait: float = 0.0) -> Any:
        import ray

        try:
            return ray.get(getattr(handle, method).remote(*given), timeout=wait + ANSWER_SECONDS)
        except ray.exceptions.GetTimeoutError:
            raise Problem(
                "Unavailable", f"the owner {name} doesn't answer", "the cluster's head may be overloaded"
            ) from None
        except ray.exceptions.RayActorError:
            self.forget(name)
            raise Problem(
                "Lost",
                f"the owner {name} has ended",
                "the values of its DAG run are gone: clear the task that made the value",
            ) from None
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Problem):
                raise cause from None
            raise

    def forget(self, name: str) -> None:
        with self._lock:
            self._handles.pop(name, None)

    def end(self, name: str) -> bool:
        """Kills an owner, and with it all that it owns."""
        import ray

        try:
            handle = self.find(name)
        except Problem:
            return False
        ray.kill(handle, no_restart=True)
        self.forget(name)
        return True

    def _keep(self, name: str, handle: Any) -> Any:
        with self._lock:
            known = self._handles.setdefault(name, handle)
            if known is handle:
                asyncio.run_coroutine_threadsafe(self._follow(name, handle), self._loop)
        return known

    def _knows(self, name: str, handle: Any) -> bool:
        return self._handles.get(name) is handle

    async def _follow(self, name: str, handle: Any) -> None:
        """Takes an owner's events for as long as it lives."""
        import ray

        generation, seq = "", 0
        while self._knows(name, handle):
            try:
                if not generation:
                    # The owner looks after its own end from now on.
                    generation = (await handle.about.remote())["generation"]
                news = await handle.events.remote(generation, seq, _EVENTS_WAIT_SECONDS)
            except ray.exceptions.RayActorError:
                if self._knows(name, handle):
                    self.forget(name)
                return
            seq = news["seq"]
            self._events.add(news["events"])
