"""A trivial function as a Ray job of its own, from its submission to its value, beside the script one would write."""

from __future__ import annotations

import subprocess
import time
from statistics import median
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from benches.ray.rig import Rig

DAG = "bench_cold"
SCRIPT = "import ray; ray.init(); print(40 + 2)"
NAIVE = f"python -c '{SCRIPT}'"
#: How often the status is asked for; the client's own share of the time is half of it.
POLL_SECONDS = 0.02


def measure(rig: Rig, rounds: int) -> dict[str, Any]:
    """Seconds, round by round."""
    airflow = rig.airflow("airfreight")
    found: dict[str, list[float]] = {}

    def task() -> float:
        run_id = airflow.trigger(DAG)
        # Asking costs the machine time that the job needs.
        time.sleep(2.0)
        airflow.wait(DAG, run_id)
        value = airflow.xcom(DAG, run_id, "cold", "value")
        if value != 42:
            raise RuntimeError(f"the function returned {value!r}")
        return float(airflow.xcom(DAG, run_id, "cold", "took"))

    ways = {
        "@task.ray": task,
        "naive script": lambda: _naive(rig),
        "naive script by `ray job submit`": lambda: _command(rig),
        "`true`": lambda: _naive(rig, "true"),
    }
    # The first round isn't counted: nothing has been loaded yet.
    for number in range(rounds + 1):
        rig.say(f"cold function: round {number} of {rounds}")
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for name in order:
            seconds = ways[name]()
            if number:
                found.setdefault(name, []).append(seconds)
    return {"seconds": found, "median": {name: median(values) for name, values in found.items()}}


def _naive(rig: Rig, entrypoint: str = NAIVE) -> float:
    """The Jobs API alone: submit, ask until it is over, read what was printed."""
    name = f"naive-{uuid4().hex}"
    started = time.perf_counter()
    rig.ray.request("POST", "/api/jobs/", {"entrypoint": entrypoint, "submission_id": name})
    while (job := rig.ray.job(name)) is None or job["status"] in ("PENDING", "RUNNING"):
        time.sleep(POLL_SECONDS)
    printed = rig.ray.request("GET", f"/api/jobs/{name}/logs")["logs"]
    took = time.perf_counter() - started
    if job["status"] != "SUCCEEDED" or (entrypoint == NAIVE and "42" not in printed.splitlines()):
        raise RuntimeError(f"the naive script is {job['status']}: {printed[-500:]}")
    return took


def _command(rig: Rig) -> float:
    """Ray's own command, which follows the log; starting its Python is part of the time."""
    started = time.perf_counter()
    ran = subprocess.run(
        [rig.ray.venv / "bin" / "ray", "job", "submit", "--address", rig.ray.address, "--", "python", "-c", SCRIPT],
        env=rig.ray.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    took = time.perf_counter() - started
    if ran.returncode or "42" not in ran.stdout.splitlines():
        raise RuntimeError(f"ray job submit ended with {ran.returncode}: {ran.stdout[-500:]}{ran.stderr[-500:]}")
    return took
