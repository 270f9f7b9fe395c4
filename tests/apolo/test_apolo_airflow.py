"""
Goal: one job per attempt, whatever dies meanwhile, and its whole log in Airflow.

Method: a real Airflow and a double of the platform; workers and triggerers are killed with SIGKILL, answers get lost,
tasks are cleared and marked.
"""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_home import AirflowHome
from apolo_home import Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES = 60


def plan(*steps: dict[str, Any]) -> str:
    return f"plan {json.dumps(steps)}"


COUNTING = plan(
    {"status": "running"},
    *(step for number in range(LINES) for step in ({"log": f"line {number}"}, {"sleep": 0.5})),
    {"status": "succeeded", "exit_code": 0},
)
FOREVER = plan({"status": "running"}, {"log": "begun"}, {"sleep": 3600})


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform.start() as platform:
        yield platform


@pytest.fixture(scope="module")
def airflow(platform: Platform, airflow_env: dict[str, str], request: pytest.FixtureRequest) -> Iterator[AirflowHome]:
    """An Airflow that knows the platform, and soon notices who has died; its logs are kept after a failed test."""
    env = {
        **airflow_env,
        "AIRFLOW_CONN_APOLO_DEFAULT": platform.connection(),
        "AIRFLOW_CONN_NEURO_DEFAULT": platform.connection(),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    }
    # Another version of Airflow: AIRFREIGHT_AIRFLOW_VENV=.venvs/airflow-3.2.2 pytest tests/apolo/test_apolo_airflow.py
    venv = os.environ.get("AIRFREIGHT_AIRFLOW_VENV")
    with AirflowHome(Path(__file__).with_name("dags"), env=env, venv=Path(venv).absolute() if venv else None) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that the tests used are in {home.folder}")


@pytest.mark.parametrize("dag_id", ["apolo_deferred", "apolo_in_worker", "neuro_in_worker"])
def test_a_job_runs_and_its_log_arrives(dag_id: str, airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.run(dag_id, {"command": "sh -c 'for i in $(seq 20); do echo line $i; sleep 0.5; done'"})

    (job,) = jobs(platform, run)
    assert airflow.xcom(dag_id, run, "job") == {
        "id": job["id"],
        "exit_code": 0,
        "status": "succeeded",
        "http_url": "",
    }
    assert airflow.xcom(dag_id, run, "job", "assigned_job")["id"] == job["id"]
    assert numbers(airflow, dag_id, run) == list(range(1, 21))


SLOW_START = plan({"sleep": 12}, {"status": "running"}, {"sleep": 3600})


@pytest.mark.parametrize("dag_id", ["apolo_detached", "neuro_detached"])
def test_a_detached_job_waits_in_the_triggerer_and_goes_on(
    dag_id: str, airflow: AirflowHome, platform: Platform
) -> None:
    run = airflow.trigger(dag_id, {"command": SLOW_START})
    if not is_of(airflow, "3.0"):
        airflow.wait_for_state(dag_id, run, "job", "deferred")
    airflow.wait(dag_id, run)

    (job,) = jobs(platform, run)
    assert job["status"] == "running"
    assert airflow.xcom(dag_id, run, "job")["status"] == "running"


def test_an_old_dag_needs_no_triggerer(airflow: AirflowHome, platform: Platform) -> None:
    airflow.components.stop(["triggerer"])
    try:
        platform.wait_for(
            lambda: airflow.request("GET", "/monitor/health")["triggerer"]["status"] != "healthy",
            "Airflow to miss its triggerer",
        )
        run = airflow.run("neuro_detached", {"command": SLOW_START})
    finally:
        airflow.restart("triggerer")
    assert airflow.xcom("neuro_detached", run, "job")["status"] == "running"
    platform.wait_for(
        lambda: airflow.request("GET", "/monitor/health")["triggerer"]["status"] == "healthy", "the triggerer"
    )


def test_a_sensor_waits_for_the_job_of_an_operator(airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.run("apolo_pair", {"command": "sleep 8"})
    assert [job["status"] for job in jobs(platform, run)] == ["succeeded"]


@pytest.mark.parametrize("dag_id", ["apolo_deferred", "apolo_in_worker"])
def test_a_retry_after_a_failure_creates_a_new_job(dag_id: str, airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.trigger(dag_id, {"command": "sh -c 'sleep 7; exit 3'"})
    airflow.wait(dag_id, run, expect="failed")

    assert [job["status"] for job in jobs(platform, run)] == ["failed", "failed"]
    assert "has failed (exit code 3, Error)" in failure(airflow, dag_id, run)


def test_the_next_attempt_takes_over_the_job_of_a_killed_worker(airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.trigger("apolo_in_worker", {"command": COUNTING})
    job = running(platform, run)
    airflow.wait_for_state("apolo_in_worker", run, "job", "running")
    task = instance(airflow, "apolo_in_worker", run)["pid"]
    parent = int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (parent, task):
        os.kill(pid, signal.SIGKILL)
    airflow.wait("apolo_in_worker", run)

    assert [each["id"] for each in jobs(platform, run)] == [job]
    assert instance(airflow, "apolo_in_worker", run)["try_number"] == 2
    assert numbers(airflow, "apolo_in_worker", run) == list(range(LINES))


def test_a_restarted_triggerer_copies_each_line_once(airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.trigger("apolo_deferred", {"command": COUNTING})
    in_triggerer(airflow, platform, "apolo_deferred", run)
    airflow.restart("triggerer")
    airflow.wait("apolo_deferred", run)

    assert [job["status"] for job in jobs(platform, run)] == ["succeeded"]
    assert numbers(airflow, "apolo_deferred", run) == list(range(LINES))


def test_a_killed_triggerer_is_resumed(airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.trigger("apolo_deferred", {"command": COUNTING})
    in_triggerer(airflow, platform, "apolo_deferred", run)
    airflow.components["triggerer"].signal(signal.SIGKILL)
    airflow.restart("triggerer")
    airflow.wait("apolo_deferred", run)

    assert [job["status"] for job in jobs(platform, run)] == ["succeeded"]
    assert sorted(set(numbers(airflow, "apolo_deferred", run))) == list(range(LINES))


def test_lost_answers_are_no_second_job(airflow: AirflowHome, platform: Platform) -> None:
    platform.fault("POST", "/jobs", kind="lose", times=2)
    run = airflow.run("apolo_deferred", {"command": "true"})
    assert len(jobs(platform, run)) == 1


@pytest.mark.parametrize("dag_id", ["apolo_deferred", "apolo_in_worker"])
def test_clearing_cancels_the_old_job_and_marking_failed_the_new_one(
    dag_id: str, airflow: AirflowHome, platform: Platform
) -> None:
    if is_of(airflow, "3.0"):
        pytest.skip("Airflow 3.0 leaves a task that is cleared while it runs in the state `restarting`")
    run = airflow.trigger(dag_id, {"command": FOREVER})
    old = waited_for(airflow, platform, dag_id, run)
    airflow.clear(dag_id, run, ["job"])
    platform.wait_for(lambda: len(jobs(platform, run)) == 2, "a second job")
    platform.wait_for(lambda: platform.job(old)["status"] == "cancelled", "the first job's end")
    new = jobs(platform, run)[1]["id"]
    if dag_id == "apolo_deferred":
        in_triggerer(airflow, platform, dag_id, run)
    airflow.request("PATCH", f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job", {"new_state": "failed"})
    platform.wait_for(lambda: platform.job(new)["status"] == "cancelled", "the second job's end")
    assert len(jobs(platform, run)) == 2


def test_an_old_dag_leaves_its_job_when_it_is_killed(airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.trigger("neuro_in_worker", {"command": FOREVER})
    job = waited_for(airflow, platform, "neuro_in_worker", run)
    airflow.request("PATCH", f"/dags/neuro_in_worker/dagRuns/{run}/taskInstances/job", {"new_state": "failed"})
    platform.wait_for(
        lambda: any(
            "goes on, as kill_on_error=False wishes" in line for line in messages(airflow, "neuro_in_worker", run)
        ),
        "the worker to be told",
    )
    assert platform.job(job)["status"] == "running"


def is_of(airflow: AirflowHome, version: str) -> bool:
    """Whether Airflow is of this version."""
    return any(airflow.venv.glob(f"lib/python*/site-packages/apache_airflow-{version}.*.dist-info"))


def jobs(platform: Platform, run: str) -> list[dict[str, Any]]:
    """The jobs of a DAG run, in the order of their creation."""
    return [job for job in platform.jobs() if job["container"].get("env", {}).get("RUN") == run]


def running(platform: Platform, run: str) -> str:
    """The id of the run's newest job, as soon as it runs."""
    platform.wait_for(lambda: [job for job in jobs(platform, run)[-1:] if job["status"] == "running"], "a running job")
    return str(jobs(platform, run)[-1]["id"])


def waited_for(airflow: AirflowHome, platform: Platform, dag_id: str, run: str) -> str:
    job = running(platform, run)
    if dag_id == "apolo_deferred":
        in_triggerer(airflow, platform, dag_id, run)
    else:
        platform.wait_for(lambda: "begun" in messages(airflow, dag_id, run), "the worker to read the log")
    return job


def in_triggerer(airflow: AirflowHome, platform: Platform, dag_id: str, run: str) -> None:
    """Return when the trigger runs."""
    if is_of(airflow, "3.0"):
        pytest.skip("Airflow 3.0 always waits in the worker")
    airflow.wait_for_state(dag_id, run, "job", "deferred")
    path = f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job"

    def runs() -> bool:
        trigger = airflow.request("GET", path)["trigger"]
        return bool(trigger and trigger["triggerer_id"]) and airflow.trigger_speaks(dag_id, run, "job")

    platform.wait_for(runs, "the trigger to run")


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
