"""1 GB between this host and a cluster, and between two tasks in it, beside a raw copy over TCP and ``ray.put``."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from benches.memory import Sampler
from benches.ray.rig import ROOT
from ray_home import RayHome

if TYPE_CHECKING:
    from benches.ray.rig import Program, Rig

GB = 1_000_000_000
MB = 1_000_000
#: What the dashboard's port alone carries.
DASHBOARD_BYTES = 250 * MB
#: One value that comes, one that goes, and what a task makes of it.
OBJECT_STORE_BYTES = 4 * GB

_PUT = """
import json, os, sys, time
import numpy, ray
ray.init(address=sys.argv[1], log_to_driver=False)
value = numpy.frombuffer(bytearray(os.urandom(int(sys.argv[2]))), dtype="uint8")
took = []
for _ in range(int(sys.argv[3]) + 1):
    began = time.perf_counter()
    ref = ray.put(value)
    took.append(time.perf_counter() - began)
    del ref
print(json.dumps(took[1:]))
"""


def measure(rig: Rig, rounds: int) -> dict[str, Any]:
    """Seconds, round by round; the most private memory that each side took beyond what it had."""
    found: dict[str, Any] = {"seconds": {}, "memory": {}, "nbytes": {"port": GB, "dashboard": DASHBOARD_BYTES}}
    with ExitStack() as stack:
        rig.say("starting a Ray with room for values")
        ray = stack.enter_context(RayHome.start(num_cpus=4, object_store_bytes=OBJECT_STORE_BYTES))
        ways = {
            "port": {"nbytes": GB, "transport": "port", "route": "port"},
            "dashboard": {"nbytes": DASHBOARD_BYTES, "transport": "mailbox", "route": "dashboard"},
        }
        programs = {}
        for way, arguments in ways.items():
            programs[way] = stack.enter_context(rig.program("airfreight", "values_process", ray.address, arguments))
            programs[way].report("ready")
        # The first round doesn't count: workers start, and pages are had for the first time. The last one isn't timed:
        # to look at the memory of some twenty processes takes time of both cores.
        for number in range(rounds + 2):
            rig.say(f"values: round {number} of {rounds}")
            is_timed = 0 < number <= rounds
            one: dict[str, Any] = {"raw TCP": _raw_copy(GB)}
            for way, program in programs.items():
                for direction in ("send", "fetch"):
                    with _watched(ray, program) if number > rounds else contextlib.nullcontext() as sampler:
                        one[f"{direction}, {way}"] = _transfer(program, direction)
                    if sampler is not None:
                        for side, nbytes in sampler.grown().items():
                            found["memory"].setdefault(f"{direction}, {way}, {side}", []).append(nbytes)
            for name, seconds in one.items():
                if is_timed:
                    found["seconds"].setdefault(name, []).append(seconds)
        for program in programs.values():
            program.tell("end")
        rig.say("values: ray.put")
        found["seconds"]["ray.put"] = _ray_put(ray, rounds)
        rig.say("values: from task to task")
        found["hand_over"] = _hand_over(ray, rounds)
    found["median"] = {name: median(values) for name, values in found["seconds"].items()}
    return found


def _watched(ray: RayHome, program: Program) -> Sampler:
    return Sampler({"worker": [program.pid], "cluster": ray.pids})


def _transfer(program: Program, direction: str) -> float:
    """Seconds for one way of one value."""
    program.tell(direction)
    report = program.report(direction)
    if not report.get("same", True):
        raise RuntimeError("what came back is not what was sent")
    return float(report["took"])


def _raw_copy(nbytes: int) -> float:
    """From the memory of one process to that of another, over loopback: nothing is stored or checked."""
    block = bytearray(os.urandom(4 * MB))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = os.fork()
        if not sender:
            with contextlib.suppress(BaseException), socket.create_connection(listening.getsockname()) as connection:
                for _ in range(nbytes // len(block)):
                    connection.sendall(block)
            os._exit(0)
        connection, _ = listening.accept()
    received = 0
    with connection:
        began = time.perf_counter()
        while count := connection.recv_into(block):
            received += count
        took = time.perf_counter() - began
    os.waitpid(sender, 0)
    if received != nbytes:
        raise RuntimeError(f"{received} of {nbytes} bytes came over loopback")
    return took


def _ray_put(ray: RayHome, rounds: int) -> list[float]:
    ran = subprocess.run(
        [ray.venv / "bin" / "python", "-c", _PUT, ray.gcs_address, str(GB), str(rounds)],
        env=ray.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    took: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return took


def _hand_over(ray: RayHome, rounds: int) -> dict[str, list[float]]:
    """
    A task takes the array of the task before, sums it, and says how long that took.

    ``beyond``: from the request to its answer, without the sum; ``nothing``: the same of a task that takes a number.
    """
    sys.path[:0] = [str(ROOT / "tests" / "ray" / "cluster")]
    from runner_client import Run, RunnerHome

    home = RunnerHome(ray)
    home.find()
    run = Run(home)

    def make(nbytes: int) -> Any:
        import numpy

        return numpy.ones(nbytes // 8)

    def work(array: Any) -> list[float]:
        import time

        began = time.perf_counter()
        total = float(array.sum()) if hasattr(array, "sum") else 0.0
        return [time.perf_counter() - began, total]

    found: dict[str, list[float]] = {"beyond": [], "nothing": [], "work": []}
    value = run.result(make, GB)
    for number in range(5 * rounds + 2):
        for name, argument in (("beyond", value), ("nothing", 1)):
            wanted = run.wanted(work, [argument])
            began = time.perf_counter()
            state = run.wait(run.begin(wanted, wait=10.0))
            took = time.perf_counter() - began
            seconds, total = state["record"]["result"]["json"]
            if name == "beyond" and total != GB // 8:
                raise RuntimeError(f"the sum is {total}")
            if number > 1:
                found[name].append(took - seconds)
                if name == "beyond":
                    found["work"].append(seconds)
    run.end()
    return found
