"""From the end of a Ray job to the end of its Airflow task, and how much of that is Airflow's own."""

from __future__ import annotations

import time
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_home import AirflowHome
    from benches.ray.rig import Rig

#: Seconds between the ends of tasks of one round, so that none meets another one's processes.
APART = 3.0
#: The first one ends after so many seconds: later than any has deferred.
FIRST = 11.0
#: astro looks every minute; its jobs end evenly spread over that minute.
MINUTE = 60.0

DAG, DEFAULTS, MOMENT = "bench_ends", "bench_ends_defaults", "bench_moment"


def measure(rig: Rig, rounds: int) -> dict[str, Any]:
    """Seconds, round by round, by provider and way of waiting; ``moment`` is Airflow without any provider."""
    airflows = {provider: rig.airflow(provider) for provider in rig.providers}
    found: dict[str, list[float]] = {}
    slow = _start_defaults(rig, airflows, rounds)
    # The first round isn't counted: nothing has been loaded yet.
    for number in range(rounds + 1):
        rig.say(f"ends of jobs: round {number} of {rounds}")
        order = list(airflows) if number % 2 else list(airflows)[::-1]
        for name, seconds in _round(rig, {provider: airflows[provider] for provider in order}).items():
            if number:
                found.setdefault(name, []).append(seconds)
    for run_id in slow:
        rig.say("ends of jobs: astro with its defaults")
        airflows["astro"].wait(DEFAULTS, run_id, timeout=4 * MINUTE)
        ended = _ended(airflows["astro"], DEFAULTS, run_id, "defaults")
        found.setdefault("astro, defaults", []).append(ended - _job_ended(rig, run_id, "defaults"))
    return {
        "seconds": found,
        "median": {name: median(values) for name, values in found.items()},
        "missing": rig.missing,
    }


def _start_defaults(rig: Rig, airflows: dict[str, AirflowHome], rounds: int) -> list[str]:
    if "astro" not in airflows:
        return []
    times = [round(FIRST + (number + 0.5) * MINUTE / rounds) for number in range(rounds)]
    return [airflows["astro"].trigger(DEFAULTS, {"defaults": seconds}) for seconds in times]


def _round(rig: Rig, airflows: dict[str, AirflowHome]) -> dict[str, float]:
    """All tasks at once; their ends keep apart."""
    runs: list[tuple[str, str, str]] = []
    seconds = FIRST
    for provider, airflow in airflows.items():
        for dag_id, tasks in ((MOMENT, ["deferred", "worker"]), (DAG, _tasks(provider))):
            conf = {}
            for task_id in tasks:
                conf[task_id] = seconds
                seconds += APART
            runs.append((provider, dag_id, airflow.trigger(dag_id, conf)))
    # Asking whether a run is over costs its Airflow time that the tasks need.
    time.sleep(seconds)
    found = {}
    for provider, dag_id, run_id in runs:
        airflow = airflows[provider]
        airflow.wait(dag_id, run_id)
        for task_id in ["deferred", "worker"] if dag_id == MOMENT else _tasks(provider):
            ended = _ended(airflow, dag_id, run_id, task_id)
            if dag_id == MOMENT:
                moment = airflow.xcom(dag_id, run_id, task_id, "moment")
                found[f"moment in {provider}'s Airflow, {task_id}"] = ended - moment
            else:
                found[f"{provider}, {task_id}"] = ended - _job_ended(rig, run_id, task_id)
    return found


def _tasks(provider: str) -> list[str]:
    return ["deferred", "worker"] if provider == "airfreight" else ["poll_1_s"]


def _ended(airflow: AirflowHome, dag_id: str, run_id: str, task_id: str) -> float:
    (instance,) = airflow.task_instances(dag_id, run_id, task_id)
    return datetime.fromisoformat(instance["end_date"]).timestamp()


def _job_ended(rig: Rig, run_id: str, task_id: str) -> float:
    """By Ray's own clock, which is this machine's."""
    (job,) = [job for job in rig.ray.jobs() if job["entrypoint"].endswith(f"# {run_id} {task_id}")]
    return float(job["end_time"]) / 1000
