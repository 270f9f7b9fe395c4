"""
What ``try_number`` and ``max_tries`` say on each version of Airflow: ``python -m tests.matrix.tries [VERSION ...]``.

The rule of exactly one job stands on this: a retry leaves ``max_tries``, a clear raises it, unless the task is running.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.matrix.__main__ import VERSIONS, environment

from airflow_home import AirflowHome

DAGS = Path(__file__).with_name("dags")

#: What each attempt notes: the method, the try number and ``max_tries``. The last attempt follows the clear of all.
EXPECTED = {
    "defers": [["execute", 1, 1], ["execute", 2, 2], ["execute", 3, 3]],
    "fails": [["execute", 1, 1], ["execute", 2, 1], ["execute", 3, 3]],
    "killed": [["execute", 1, 1], ["execute", 2, 1], ["execute", 3, 3]],
    "resumes_and_fails": [["execute", 1, 1], ["resume", 1, 1], ["execute", 2, 1], ["execute", 3, 3]],
    "runs": [["execute", 1, 1], ["execute", 2, 2], ["execute", 3, 3]],
    "vanishes": [["execute", 1, 1], ["execute", 2, 1], ["execute", 3, 3]],
}
#: 3.0 fails a killed task at once, resumes a task that failed after it was deferred, and leaves a task that was cleared
#: while it ran in the state ``restarting``.
EXPECTED_3_0 = EXPECTED | {
    "killed": [["execute", 1, 1], ["execute", 2, 2]],
    "resumes_and_fails": [["execute", 1, 1], ["resume", 1, 1], ["resume", 2, 1], ["execute", 3, 3]],
    "runs": [["execute", 1, 1], ["execute", 2, 2]],
}


def observe(number: str) -> dict[str, list[Any]]:
    """Runs the DAG on one version, clears its tasks in every state; gives what each task has noted."""
    python = environment(next(version for version in VERSIONS if version.number == number))
    with tempfile.TemporaryDirectory(prefix="airfreight-tries-") as folder:
        env = {
            "TRIES_FOLDER": folder,
            # So that a worker that vanished is noticed within the test. A supervisor may report up to a minute late;
            # 3.4.0b2 ends its scheduler when it takes a task that was cleared and reports late for one that vanished.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "80",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        }
        with AirflowHome(DAGS, env=env, venv=python.parents[1], parallelism=8) as airflow:
            airflow.wait_for_dag("tries")
            run = airflow.trigger("tries")
            airflow.wait_for_state("tries", run, "defers", "deferred")
            airflow.clear("tries", run, ["defers"])
            _until_ended(airflow, run, ("defers", "fails", "killed", "resumes_and_fails", "vanishes"))
            airflow.wait_for_state("tries", run, "runs", "running")
            airflow.clear("tries", run, ["runs"])
            stuck = frozenset({"restarting"}) if number.startswith("3.0.") else frozenset()
            first = _until_ended(airflow, run, ("runs",), stuck)
            # Again, now that all are done.
            airflow.clear("tries", run)
            _until_ended(airflow, run, tuple(first), stuck)
        return {
            each.stem: [json.loads(line) for line in each.read_text().splitlines()]
            for each in sorted(Path(folder).glob("*.jsonl"))
        }


def _until_ended(
    airflow: AirflowHome, run: str, names: tuple[str, ...], stuck: frozenset[str] = frozenset()
) -> dict[str, str]:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        states = {each["task_id"]: each["state"] for each in airflow.task_instances("tries", run)}
        # 3.0 fails a killed task at once, without a retry, and leaves one that was cleared while it ran where it is.
        if all(states[name] in {"success", "failed"} | stuck for name in names):
            return states
        time.sleep(0.5)
    raise TimeoutError(f"of {names} some did not end: {states}")


def main(wanted: list[str]) -> int:
    wrong = 0
    for number in wanted or [version.number for version in VERSIONS]:
        print(f"Airflow {number}")
        expected = EXPECTED_3_0 if number.startswith("3.0.") else EXPECTED
        for name, notes in observe(number).items():
            differs = "" if notes == expected[name] else f"  expected {json.dumps(expected[name])}"
            wrong += bool(differs)
            print(f"  {name:24}{json.dumps(notes)}{differs}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
