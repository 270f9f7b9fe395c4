"""
Goal: one Ray job per attempt, whatever dies meanwhile, and its whole log in Airflow.

Method: a real Airflow and a real Ray; workers and triggerers are killed with SIGKILL, tasks are cleared and marked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_home import AirflowHome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_home import RayHome

#: Long enough for a worker to defer and for a triggerer to be started anew.
LINES = 120
COUNTING = f'for i in $(seq {LINES}); do echo "line $i"; sleep 0.5; done'
FOREVER = "echo begun; sleep 3600"


@pytest.fixture(scope="module")
def airflow(ray_home: RayHome, airflow_env: dict[str, str], request: pytest.FixtureRequest) -> Iterator[AirflowHome]:
    """An Airflow that knows the cluster, and soon notices who has died; its logs are kept after a failed test."""
    env = {
        **airflow_env,
        "AIRFLOW_CONN_RAY_TEST": json.dumps({"conn_type": "ray", "extra": {"address": ray_home.address}}),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    }
    # Another version of Airflow: AIRFREIGHT_AIRFLOW_VENV=.venvs/airflow-3.2.2 pytest tests/ray/test_ray_airflow.py
    venv = os.environ.get("AIRFREIGHT_AIRFLOW_VENV")
    with AirflowHome(Path(__file__).with_name("dags"), env=env, venv=Path(venv).absolute() if venv else None) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that the tests used are in {home.folder}")


@pytest.mark.parametrize("dag_id", ["ray_deferred", "ray_in_worker"])
def test_a_job_runs_and_its_log_arrives(dag_id: str, airflow: AirflowHome, ray_home: RayHome) -> None:
    command = 'for i in $(seq 20); do echo "line $i"; sleep 0.4; done; printf "    indented\\n\\nlast without newline"'
    run = airflow.run(dag_id, {"command": command})

    (job,) = jobs(ray_home, run)
    assert airflow.xcom(dag_id, run, "job") == job["submission_id"]
    assert airflow.xcom(dag_id, run, "job", "ray_job_status") == "SUCCEEDED"
    assert airflow.xcom(dag_id, run, "job", "ray_job_url").endswith(f"/#/jobs/{job['submission_id']}")
    assert airflow.xcom(dag_id, run, "job", "ray_job_start") < airflow.xcom(dag_id, run, "job", "ray_job_end")
    assert airflow.xcom(dag_id, run, "job", "_link_RayJobLink") == airflow.xcom(dag_id, run, "job", "ray_job_url")
    assert job["metadata"]["dag_id"] == dag_id
    assert numbers(airflow, dag_id, run) == list(range(1, 21))
    said = messages(airflow, dag_id, run)
    assert "    indented" in said
    assert "last without newline" in said


def test_a_job_that_is_not_waited_for_goes_on(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.run("ray_left", {"command": FOREVER})

    (job,) = jobs(ray_home, run)
    assert job["status"] in ("PENDING", "RUNNING")
    ray_home.wait_for_job(job["submission_id"], ("RUNNING",))
    ray_home.request("POST", f"/api/jobs/{job['submission_id']}/stop")


@pytest.mark.parametrize("dag_id", ["ray_deferred", "ray_in_worker"])
def test_a_retry_after_a_failure_submits_a_new_job(dag_id: str, airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger(dag_id, {"command": "echo about to fail; sleep 7; exit 3"})
    airflow.wait(dag_id, run, expect="failed")

    first, second = jobs(ray_home, run)
    assert (first["status"], second["status"]) == ("FAILED", "FAILED")
    assert first["submission_id"].endswith("-1-1")
    assert second["submission_id"].endswith("-1-2")
    assert airflow.xcom(dag_id, run, "job", "ray_job_status") == "FAILED"
    error = failure(airflow, dag_id, run)
    assert "exit code 3" in error
    assert "JOB_ENTRYPOINT_COMMAND_ERROR" in error
    assert "about to fail" in error


def test_the_next_attempt_takes_over_the_job_of_a_killed_worker(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger("ray_deferred", {"command": COUNTING})
    running(ray_home, run)
    kill_worker(airflow, "ray_deferred", run)
    airflow.wait("ray_deferred", run)

    (job,) = jobs(ray_home, run)
    assert airflow.xcom("ray_deferred", run, "job") == job["submission_id"]
    assert instance(airflow, "ray_deferred", run)["try_number"] == 2
    assert numbers(airflow, "ray_deferred", run) == list(range(1, LINES + 1))


def test_a_killed_triggerer_is_resumed(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger("ray_deferred", {"command": COUNTING})
    airflow.wait_for_state("ray_deferred", run, "job", "deferred")
    in_triggerer(airflow, "ray_deferred", run)
    kill_triggerer(airflow)
    airflow.wait("ray_deferred", run)

    assert len(jobs(ray_home, run)) == 1
    assert instance(airflow, "ray_deferred", run)["try_number"] == 1
    said = numbers(airflow, "ray_deferred", run)
    assert sorted(set(said)) == list(range(1, LINES + 1))
    repeated = len(said) - LINES
    # Two lines in a second, for ten seconds.
    assert repeated <= 20
    if repeated:
        assert any("may stand above already" in line for line in messages(airflow, "ray_deferred", run))


def test_worker_and_triggerer_may_both_be_killed(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger("ray_deferred", {"command": COUNTING})
    running(ray_home, run)
    kill_worker(airflow, "ray_deferred", run)
    airflow.wait_for_state("ray_deferred", run, "job", "deferred")
    in_triggerer(airflow, "ray_deferred", run)
    kill_triggerer(airflow)
    airflow.wait("ray_deferred", run)

    (job,) = jobs(ray_home, run)
    assert airflow.xcom("ray_deferred", run, "job") == job["submission_id"]
    assert sorted(set(numbers(airflow, "ray_deferred", run))) == list(range(1, LINES + 1))


def test_a_restarted_triggerer_copies_each_line_once(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger("ray_deferred", {"command": COUNTING})
    airflow.wait_for_state("ray_deferred", run, "job", "deferred")
    in_triggerer(airflow, "ray_deferred", run)
    airflow.restart("triggerer")
    airflow.wait("ray_deferred", run)

    (job,) = jobs(ray_home, run)
    assert job["status"] == "SUCCEEDED"
    assert numbers(airflow, "ray_deferred", run) == list(range(1, LINES + 1))


@pytest.mark.parametrize("dag_id", ["ray_deferred", "ray_in_worker"])
def test_clearing_stops_the_old_job_and_starts_a_new_one(dag_id: str, airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger(dag_id, {"command": FOREVER})
    old = waited_for(airflow, ray_home, dag_id, run)
    airflow.clear(dag_id, run, ["job"])

    until(lambda: len(jobs(ray_home, run)) == 2, "a second job")
    ray_home.wait_for_job(old, ("STOPPED",))
    new = jobs(ray_home, run)[1]["submission_id"]
    assert new.endswith("-2-2")
    ray_home.wait_for_job(new, ("RUNNING",))
    mark_failed(airflow, dag_id, run)
    ray_home.wait_for_job(new, ("STOPPED",))


@pytest.mark.parametrize("dag_id", ["ray_deferred", "ray_in_worker"])
def test_marking_a_task_failed_stops_its_job(dag_id: str, airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger(dag_id, {"command": FOREVER})
    job = waited_for(airflow, ray_home, dag_id, run)
    mark_failed(airflow, dag_id, run)

    ray_home.wait_for_job(job, ("STOPPED",))
    assert len(jobs(ray_home, run)) == 1


def test_marking_a_task_failed_while_it_defers_stops_its_job(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger("ray_refused", {"command": FOREVER, "url": airflow.url, "token": airflow.token})
    airflow.wait("ray_refused", run, expect="failed")

    until(lambda: bool(jobs(ray_home, run)), "the job")
    (job,) = jobs(ray_home, run)
    ray_home.wait_for_job(job["submission_id"], ("STOPPED",))


def test_a_job_may_be_left_when_its_task_is_killed(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger("ray_unkilled", {"command": FOREVER})
    job = waited_for(airflow, ray_home, "ray_unkilled", run)
    mark_failed(airflow, "ray_unkilled", run)

    until(
        lambda: any("goes on, as on_kill='leave' wishes" in line for line in messages(airflow, "ray_unkilled", run)),
        "the trigger to be told",
    )
    ray_home.wait_for_job(job, ("RUNNING",))
    ray_home.request("POST", f"/api/jobs/{job}/stop")


@pytest.mark.parametrize("dag_id", ["ray_deferred", "ray_in_worker"])
def test_a_timeout_stops_the_job(dag_id: str, airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.trigger(dag_id, {"command": FOREVER, "timeout": 15})
    airflow.wait(dag_id, run, expect="failed")

    assert [job["status"] for job in jobs(ray_home, run)] == ["STOPPED", "STOPPED"]
    assert airflow.xcom(dag_id, run, "job", "ray_job_status") == "TIMEOUT"
    assert "took longer than the task allows" in failure(airflow, dag_id, run)


@pytest.mark.parametrize("dag_id", ["ray_sensor_deferred", "ray_sensor_poke", "ray_sensor_reschedule"])
def test_a_sensor_waits_for_a_job_of_somebody_else(dag_id: str, airflow: AirflowHome, ray_home: RayHome) -> None:
    job = f"elsewhere-{dag_id}"
    ray_home.request("POST", "/api/jobs/", {"entrypoint": "sleep 6", "submission_id": job})
    airflow.run(dag_id, {"job_id": job})
    assert ray_home.job(job)["status"] == "SUCCEEDED"


def jobs(ray_home: RayHome, run: str) -> list[dict[str, Any]]:
    """The jobs of a DAG run, in the order of their submission."""
    found = [job for job in ray_home.jobs() if (job.get("metadata") or {}).get("run_id") == run]
    return sorted(found, key=lambda job: job["start_time"])


def running(ray_home: RayHome, run: str) -> str:
    """The id of the run's job, as soon as it runs."""
    until(lambda: bool(jobs(ray_home, run)), "a job")
    submission_id: str = jobs(ray_home, run)[0]["submission_id"]
    ray_home.wait_for_job(submission_id, ("RUNNING",))
    return submission_id


def waited_for(airflow: AirflowHome, ray_home: RayHome, dag_id: str, run: str) -> str:
    """The id of the run's job, as soon as it runs and is waited for where it will be."""
    job = running(ray_home, run)
    if dag_id == "ray_in_worker":
        until(lambda: "begun" in messages(airflow, dag_id, run), "the worker to read the log")
    else:
        in_triggerer(airflow, dag_id, run)
    return job


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


def kill_triggerer(airflow: AirflowHome) -> None:
    airflow.components["triggerer"].signal(signal.SIGKILL)
    airflow.restart("triggerer")


def mark_failed(airflow: AirflowHome, dag_id: str, run: str) -> None:
    airflow.request("PATCH", f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job", {"new_state": "failed"})


def instance(airflow: AirflowHome, dag_id: str, run: str) -> dict[str, Any]:
    (found,) = airflow.task_instances(dag_id, run, "job")
    return found


def messages(airflow: AirflowHome, dag_id: str, run: str) -> list[str]:
    """What the log of the last attempt says."""
    return [str(line["event"]) for line in airflow.log(dag_id, run, "job")]


def numbers(airflow: AirflowHome, dag_id: str, run: str) -> list[int]:
    """The numbers that the job has counted, as they stand in the log."""
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
