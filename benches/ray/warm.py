"""A trivial function by the cluster's runner, from its submission to its value, on each way to a runner."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benches.ray import cold

if TYPE_CHECKING:
    from benches.ray.rig import Rig

#: What the ways to a runner are called, in the order of their speed.
TRANSPORTS = {"port": "own port", "mailbox": "dashboard alone"}
CALLS = 200
#: Processes that are started for one call each.
FRESH = 12
IDLE_SECONDS = 15.0
CLIENTS, CROWD = 16, 400
#: For so long the runner's processor time is watched while nobody asks for anything.
WATCH_SECONDS = 20.0


def measure(rig: Rig, rounds: int) -> dict[str, Any]:
    """Seconds of each call, by way; calls a second; the runner's processor time."""
    owner = f"airfreight-owner-{uuid4().hex[:20]}"
    found: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}

    def run(way: str, transport: str, **more: Any) -> dict[str, Any]:
        arguments = {"way": way, "transport": transport, "owner": owner, **more}
        with rig.program("airfreight", "warm_process", rig.ray.address, arguments) as program:
            return program.report("ready" if way == "start" else "done")

    rig.say("starting the runner")
    start = run("start", "auto")
    for number in range(rounds):
        for transport, name in TRANSPORTS.items():
            rig.say(f"warm function by {name}: round {number + 1} of {rounds}")
            found.setdefault(f"{name}, open connection", []).extend(run("open", transport, count=CALLS)["seconds"])
            fresh = [second for _ in range(FRESH) for second in run("fresh", transport)["seconds"]]
            found.setdefault(f"{name}, fresh process", []).extend(fresh)
            idle = run("idle", transport, count=2, pause=IDLE_SECONDS)["seconds"]
            found.setdefault(f"{name}, after {IDLE_SECONDS:.0f} s idle", []).extend(idle)
            crowd = run("crowd", transport, clients=CLIENTS, count=CROWD)
            found.setdefault(f"{name}, {CLIENTS} clients", []).extend(crowd["seconds"])
            rates.setdefault(name, []).append(crowd["per_second"])
        first = run("runs", "port", count=3)["seconds"]
        found.setdefault("own port, first call of a DAG run", []).extend(first)
        found.setdefault("cold: a job of its own", []).extend(run("cold", "port", count=1)["seconds"])
        found.setdefault("naive script as a job", []).append(cold._naive(rig))
    return {
        "seconds": found,
        "median": {name: median(values) for name, values in found.items()},
        "p95": {name: _percentile(values, 0.95) for name, values in found.items()},
        "per_second": {name: median(values) for name, values in rates.items()},
        "start": start["seconds"][0],
        "idle": _idle(rig, start["about"]["id"]),
    }


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _idle(rig: Rig, runner: str) -> dict[str, float]:
    """What the runner, and the part of Ray that it asks for letters, take of a core while nobody wants anything."""
    rig.say("watching the idle runner")
    pids = {
        "runner": json.loads((rig.ray.logs / "airfreight" / f"{runner}.json").read_text())["pid"],
        "GCS": _gcs(rig.ray.folder),
    }
    # What the last call has left in a hurry.
    time.sleep(3.0)
    before = {name: _processor_seconds(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(WATCH_SECONDS)
    took = time.monotonic() - began
    return {name: (_processor_seconds(pid) - before[name]) / took for name, pid in pids.items()}


def _gcs(folder: Path) -> int:
    """The process of the cluster in ``folder`` that keeps Ray's tables."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "gcs_server" in command.split("\0")[0] and str(folder) in command:
            return int(process.name)
    raise RuntimeError(f"no gcs_server of {folder}")


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
