"""
Calls a trivial function through the runner of a cluster, as a task's process does, and says how long each call took.

Its argument is a JSON object: ``address``, ``transport``, ``owner``, ``way`` and what that way wants. A call is timed
from its submission until its value is there.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from airfreight._remote import RayClient, RayRunner
    from airfreight.ray.parcel import Parcel

VALUE = 42
OVER = ("SUCCEEDED", "FAILED", "STOPPED")


class Caller:
    """
    Makes calls.

    :param owner: the name of the owner that makes them in the cluster.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        from airfreight._remote import RayClient

        self.owner: str = arguments["owner"]
        self._transport: str = arguments["transport"]
        self._parcel = _parcel()
        zips = [base64.b64encode(package).decode() for package in self._parcel.packages()]
        self._sent = {"name": self._parcel.name, "zips": zips}
        self.client: RayClient = RayClient(arguments["address"], patience=60)
        self.runner = self.connect()

    def connect(self) -> RayRunner:
        from airfreight.ray.parcel import driver_package

        return self.client.runner(driver_package(), transport=self._transport)

    def call(self, owner: str | None = None) -> float:
        """Seconds from a call's submission to its value."""
        wanted = self._wanted(owner or self.owner)
        began = time.perf_counter()
        state = self.runner.call(wanted)
        if state["status"] not in OVER:
            with self.runner.watch(wanted["owner"]["name"], wanted["id"], logs=False) as watch:
                while (event := watch.next())["event"] != "ended":  # type: ignore[index]
                    pass
            state = event["job"]  # type: ignore[index]
        took = time.perf_counter() - began
        found = (state.get("record") or {}).get("result", {})
        if state["status"] != "SUCCEEDED" or found.get("json") != VALUE:
            raise RuntimeError(f"the call ended as {state}")
        return took

    def job(self) -> float:
        """Seconds of the same function as a job of its own, as a task without a runner submits and follows it."""
        from airfreight.ray.parcel import driver_package

        began = time.perf_counter()
        packages = [driver_package(), *self._parcel.packages()]
        name = f"bench-cold-{uuid4().hex}"
        self.client.submit(
            {
                "submission_id": name,
                "entrypoint": f"exec python {self._parcel.entrypoint}",
                "runtime_env": {"py_modules": [self.client.upload(package) for package in packages]},
            }
        )
        with self.client.watch(name) as watch:
            while (event := watch.next())["event"] != "ended":  # type: ignore[index]
                pass
        printed = "".join(self.client.last_lines(name, 20))
        took = time.perf_counter() - began
        if event["job"]["status"] != "SUCCEEDED" or str(VALUE) not in printed:  # type: ignore[index]
            raise RuntimeError(f"the job ended as {event}: {printed[-500:]}")
        return took

    def _wanted(self, owner: str) -> dict[str, Any]:
        return {
            "id": f"af-bench-{uuid4().hex}-0-1",
            "nonce": uuid4().hex,
            "name": "bench.answer",
            "owner": {"name": owner, "deployment": "bench", "dag_id": "bench", "run_id": "bench"},
            "metadata": {},
            "options": {"num_cpus": 1},
            "isolation": "pool",
            "eager": False,
            "parcel": self._sent,
            "inputs": [],
            "parts": "none",
            "inline_bytes_max": 12288,
        }


def _parcel() -> Parcel:
    from airfreight.ray import skew
    from airfreight.ray.function import Function
    from airfreight.ray.parcel import Parcel
    from benches.ray.trivial import answer

    function = Function(answer, [])
    arguments = function.argument((), {})
    return Parcel(function, arguments, environment={}, libraries=skew.versions(function.libraries()))


def main() -> None:
    arguments = json.loads(sys.argv[1])
    try:
        caller = Caller(arguments)
        match arguments["way"]:
            case "start":
                began = time.perf_counter()
                ready = caller.runner.ready(120)
                took = time.perf_counter() - began
                seconds = [took, caller.call()]
                _report("ready", seconds=seconds, about={**ready, "id": caller.runner.id})
            case "fresh":
                _report("done", seconds=[caller.call()], transport=caller.runner.transport)
            case "runs":
                caller.call()
                owners = [f"airfreight-owner-{uuid4().hex[:20]}" for _ in range(arguments["count"])]
                _report("done", seconds=[caller.call(owner) for owner in owners])
                for owner in owners:
                    caller.runner.drop_owner(owner)
            case "open":
                for _ in range(10):
                    caller.call()
                _report("done", seconds=[caller.call() for _ in range(arguments["count"])])
            case "idle":
                caller.call()
                seconds = []
                for _ in range(arguments["count"]):
                    time.sleep(arguments["pause"])
                    seconds.append(caller.call())
                _report("done", seconds=seconds)
            case "crowd":
                _crowd(caller, arguments["clients"], arguments["count"])
            case "cold":
                _report("done", seconds=[caller.job() for _ in range(arguments["count"])])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    # As Airflow's tasks end.
    os._exit(0)


def _crowd(caller: Caller, clients: int, count: int) -> None:
    """So many threads, each of which calls again as soon as it has its value."""
    # Ray starts its processes when there is something to do for them.
    _together(caller, clients, count // 4)
    began = time.perf_counter()
    seconds = _together(caller, clients, count)
    _report("done", seconds=seconds, per_second=count / (time.perf_counter() - began))


def _together(caller: Caller, clients: int, count: int) -> list[float]:
    left = iter(range(count))
    lock = threading.Lock()
    seconds: list[float] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                seconds.append(caller.call())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return seconds


def _report(name: str, **what: Any) -> None:
    print(json.dumps({"report": name, **what}), flush=True)


if __name__ == "__main__":
    main()
