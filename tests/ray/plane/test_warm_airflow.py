"""
Goal: one call per attempt, whatever dies meanwhile, and its whole log in Airflow, as with jobs.

Method: a real Airflow and a real Ray; workers and triggerers are killed with SIGKILL, tasks are cleared and marked.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._remote import RayClient
from airfreight.ray.parcel import driver_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_home import AirflowHome
    from ray_home import RayHome

pytestmark = pytest.mark.slow

#: Long enough for a worker to defer and for a triggerer to be started anew.
LINES = 90
FOREVER = 7200


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    """Where a function notes each of its starts."""
    return tmp_path / "starts"


@pytest.mark.parametrize("dag_id", ["warm_deferred", "warm_in_worker"])
def test_a_call_runs_and_its_log_arrives(dag_id: str, airflow: AirflowHome, ray_home: RayHome, starts: Path) -> None:
    run = airflow.run(dag_id, {"lines": 16, "path": str(starts)})

    assert airflow.xcom(dag_id, run, "job") == 16
    assert airflow.xcom(dag_id, run, "job", "ray_job_id").endswith("-1-1")
    assert "/#/jobs/airfreight-runner-" in airflow.xcom(dag_id, run, "job", "ray_job_url")
    assert airflow.xcom(dag_id, run, "job", "ray_job_status") == "SUCCEEDED"
    assert airflow.xcom(dag_id, run, "job", "ray_job_start") < airflow.xcom(dag_id, run, "job", "ray_job_end")
    assert numbers(airflow, dag_id, run) == list(range(1, 17))
    assert len(starts.read_text().split()) == 1
    # It was the last task of its run.
    until(lambda: run not in runs(ray_home), "what the run has left in Ray to be freed")


@pytest.mark.parametrize("dag_id", ["warm_deferred", "warm_in_worker"])
def test_a_retry_after_a_failure_makes_a_new_call(
    dag_id: str, airflow: AirflowHome, ray_home: RayHome, starts: Path
) -> None:
    run = airflow.trigger(dag_id, {"lines": 12, "path": str(starts), "fails": True})
    airflow.wait(dag_id, run, expect="failed")

    first, second = calls(ray_home, run)
    assert (first["id"][-4:], first["status"]) == ("-1-1", "FAILED")
    assert (second["id"][-4:], second["status"]) == ("-1-2", "FAILED")
    assert "as wished" in failure(airflow, dag_id, run)
    assert len(starts.read_text().split()) == 2


def test_the_next_attempt_takes_over_the_call_of_a_killed_worker(
    airflow: AirflowHome, ray_home: RayHome, starts: Path
) -> None:
    run = airflow.trigger("warm_deferred", {"lines": LINES, "path": str(starts)})
    running(ray_home, run)
    kill_worker(airflow, "warm_deferred", run)
    airflow.wait("warm_deferred", run)

    assert instance(airflow, "warm_deferred", run)["try_number"] == 2
    assert len(starts.read_text().split()) == 1
    assert numbers(airflow, "warm_deferred", run) == list(range(1, LINES + 1))


def test_a_killed_triggerer_is_resumed(airflow: AirflowHome, ray_home: RayHome, starts: Path) -> None:
    run = airflow.trigger("warm_deferred", {"lines": LINES, "path": str(starts)})
    in_triggerer(airflow, "warm_deferred", run)
    airflow.components["triggerer"].signal(signal.SIGKILL)
    airflow.restart("triggerer")
    airflow.wait("warm_deferred", run)

    assert len(starts.read_text().split()) == 1
    assert airflow.xcom("warm_deferred", run, "job") == LINES
    said = numbers(airflow, "warm_deferred", run)
    assert sorted(set(said)) == list(range(1, LINES + 1))
    # Two lines in a second, for ten seconds.
    assert len(said) - LINES <= 20


@pytest.mark.parametrize("dag_id", ["warm_deferred", "warm_in_worker"])
def test_clearing_stops_the_old_call_and_makes_a_new_one(
    dag_id: str, airflow: AirflowHome, ray_home: RayHome, starts: Path
) -> None:
    run = airflow.trigger(dag_id, {"lines": FOREVER, "path": str(starts)})
    waited_for(airflow, ray_home, dag_id, run)
    airflow.clear(dag_id, run, ["job"])

    until(lambda: len(calls(ray_home, run)) == 2, "a second call")
    until(lambda: calls(ray_home, run)[0]["status"] == "STOPPED", "the first call to stop")
    assert calls(ray_home, run)[1]["id"].endswith("-2-2")
    until(lambda: calls(ray_home, run)[1]["status"] == "RUNNING", "the second call to run")
    mark_failed(airflow, dag_id, run)
    until(lambda: calls(ray_home, run)[1]["status"] == "STOPPED", "the second call to stop")


@pytest.mark.parametrize("dag_id", ["warm_deferred", "warm_in_worker"])
def test_marking_a_task_failed_stops_its_call(
    dag_id: str, airflow: AirflowHome, ray_home: RayHome, starts: Path
) -> None:
    run = airflow.trigger(dag_id, {"lines": FOREVER, "path": str(starts)})
    waited_for(airflow, ray_home, dag_id, run)
    mark_failed(airflow, dag_id, run)

    until(lambda: calls(ray_home, run)[0]["status"] == "STOPPED", "the call to stop")
    assert len(calls(ray_home, run)) == 1


@pytest.mark.parametrize("dag_id", ["warm_deferred", "warm_in_worker"])
def test_a_timeout_stops_the_call(dag_id: str, airflow: AirflowHome, ray_home: RayHome, starts: Path) -> None:
    run = airflow.trigger(dag_id, {"lines": FOREVER, "path": str(starts), "timeout": 12})
    airflow.wait(dag_id, run, expect="failed")

    assert [call["status"] for call in calls(ray_home, run)] == ["STOPPED", "STOPPED"]
    assert airflow.xcom(dag_id, run, "job", "ray_job_status") == "TIMEOUT"
    assert "took longer than the task allows" in failure(airflow, dag_id, run)


def runs(ray_home: RayHome) -> dict[str, str]:
    """The DAG runs that have something in Ray, with the name of what owns it there."""
    runner = RayClient(ray_home.address).runner(driver_package())
    return {owner["info"]["run_id"]: owner["name"] for owner in runner.owners()} if runner.running() else {}


def calls(ray_home: RayHome, run: str) -> list[dict[str, Any]]:
    """The calls of a DAG run, in the order of their attempts."""
    if (owner := runs(ray_home).get(run)) is None:
        return []
    found = RayClient(ray_home.address).runner(driver_package()).calls(owner)
    return sorted(found, key=lambda call: str(call["id"]))


def running(ray_home: RayHome, run: str) -> None:
    """Return when the run's call runs."""
    until(lambda: any(call["status"] == "RUNNING" for call in calls(ray_home, run)), "a call")


def waited_for(airflow: AirflowHome, ray_home: RayHome, dag_id: str, run: str) -> None:
    """Return when the run's call runs and is waited for where it will be."""
    running(ray_home, run)
    if dag_id == "warm_in_worker":
        until(lambda: bool(numbers(airflow, dag_id, run)), "the worker to read the log")
    else:
        in_triggerer(airflow, dag_id, run)


def in_triggerer(airflow: AirflowHome, dag_id: str, run: str) -> None:
    """Return when the trigger runs."""
    airflow.wait_for_state(dag_id, run, "job", "deferred")
    path = f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job"

    def runs() -> bool:
        trigger = airflow.request("GET", path)["trigger"]
        return bool(trigger and trigger["triggerer_id"]) and airflow.trigger_speaks(dag_id, run, "job")

    until(runs, "the trigger to run")


def kill_worker(airflow: AirflowHome, dag_id: str, run: str) -> None:
    """SIGKILL for the task and its supervisor, so that nobody can report."""
    airflow.wait_for_state(dag_id, run, "job", "running")
    task = instance(airflow, dag_id, run)["pid"]
    parent = int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (parent, task):
        os.kill(pid, signal.SIGKILL)


def mark_failed(airflow: AirflowHome, dag_id: str, run: str) -> None:
    airflow.request("PATCH", f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job", {"new_state": "failed"})


def instance(airflow: AirflowHome, dag_id: str, run: str) -> dict[str, Any]:
    (found,) = airflow.task_instances(dag_id, run, "job")
    return found


def messages(airflow: AirflowHome, dag_id: str, run: str) -> list[str]:
    """What the log of the last attempt says."""
    return [str(line["event"]) for line in airflow.log(dag_id, run, "job")]


def numbers(airflow: AirflowHome, dag_id: str, run: str) -> list[int]:
    """The numbers that the function has counted, as they stand in the log."""
    return [int(found[1]) for line in messages(airflow, dag_id, run) if (found := re.fullmatch(r"line (\d+)", line))]


def failure(airflow: AirflowHome, dag_id: str, run: str) -> str:
    """The exception that the last attempt ended with."""
    return "\n".join(
        str(error["exc_value"]) for line in airflow.log(dag_id, run, "job") for error in line.get("error_detail") or ()
    )


def until(condition: Callable[[], bool], what: str, timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.2)
