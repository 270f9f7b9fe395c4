"""
Goal: what the operator asks of Ray, and what it makes of the answers.

Method: a fault server instead of Ray, which tells what arrived; a record of what the task tells Airflow.
"""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airfreight.errors import ObjectLostError, UnavailableError
from airfreight.operators.ray import SubmitRayJob
from airfreight.ray.attempt import Attempt
from airfreight.ray.job import RayJobError, RayJobFailedError, RayJobLostError, RayJobTimeoutError
from airfreight.sensors.ray import RayJobSensor
from ray_home.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight._remote import RayClient

RUNS_ON = [[0, "PENDING"], [20, "RUNNING"]]


class Task:
    """One task instance over its attempts, with the XComs that it has pushed."""

    def __init__(self, name: str = "train") -> None:
        self.xcoms: dict[Any, Any] = {}
        self.run_began = datetime.now(UTC)
        self.instance = SimpleNamespace(
            dag_id="flights",
            run_id="r",
            task_id=name,
            map_index=-1,
            try_number=1,
            max_tries=2,
            start_date=datetime.now(UTC),
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
            xcom_pull=lambda task_ids, key: self.xcoms.get((task_ids, key)),
        )

    @property
    def context(self) -> Any:
        return {
            "ti": self.instance,
            "dag_run": SimpleNamespace(start_date=self.run_began),
            "dag": SimpleNamespace(fileloc=__file__),
        }

    @property
    def id(self) -> str:
        return Attempt.of(self.context).submission_id

    def run(self, kind: type[SubmitRayJob] = SubmitRayJob, **options: Any) -> Any:
        operator = kind(**{"task_id": "train", "entrypoint": "python train.py", **options})
        return operator.execute(self.context)

    def retry(self) -> None:
        self.instance.try_number += 1

    def clear(self) -> None:
        self.instance.try_number += 1
        self.instance.max_tries += 1


def running(server: FaultServer, submission_id: str) -> None:
    """Return when the job runs."""
    deadline = time.monotonic() + 30
    while server.job(submission_id)["status"] != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_submitted_with_everything_that_was_asked_for(server: FaultServer) -> None:
    task = Task()
    options = {
        "runtime_env": {"env_vars": {"A": "b"}},
        "num_cpus": "2",
        "num_gpus": 0.5,
        "memory": 1e9,
        "resources": '{"TPU": 1}',
        "label_selector": {"zone": "a"},
        "metadata": {"team": "x", "dag_id": "forged"},
    }
    assert task.run(**options) == task.id
    assert server.submitted(task.id) == {
        "entrypoint": "python train.py",
        "submission_id": task.id,
        "runtime_env": {"env_vars": {"A": "b"}},
        "entrypoint_num_cpus": 2,
        "entrypoint_num_gpus": 0.5,
        "entrypoint_memory": 1_000_000_000,
        "entrypoint_resources": {"TPU": 1},
        "entrypoint_label_selector": {"zone": "a"},
        "metadata": {
            "team": "x",
            "dag_id": "flights",
            "run_id": "r",
            "task_id": "train",
            "map_index": "-1",
            "try_number": "1",
            "airfreight_task": Attempt.of(task.context).task,
            "airfreight_run": task.run_began.isoformat(timespec="microseconds"),
            "airfreight_deployment": Attempt.of(task.context).deployment,
            "airfreight_generation": "2",
            "airfreight_nonce": server.submitted(task.id)["metadata"]["airfreight_nonce"],
        },
    }
    assert task.xcoms["ray_job_id"] == task.id
    assert task.xcoms["ray_job_status"] == "SUCCEEDED"
    assert task.xcoms["ray_job_url"] == f"{server.address}/#/jobs/{task.id}"
    for key in ("ray_job_start", "ray_job_end"):
        assert datetime.fromisoformat(task.xcoms[key]).utcoffset() == timedelta(0)


def test_rays_own_names_are_understood(server: FaultServer) -> None:
    task = Task()
    task.run(
        entrypoint_num_cpus=1, entrypoint_num_gpus=2, entrypoint_memory=3, entrypoint_resources={"a": 4}, num_cpus=9
    )
    body = server.submitted(task.id)
    assert [body[f"entrypoint_{name}"] for name in ("num_cpus", "num_gpus", "memory", "resources")] == [
        1,
        2,
        3,
        {"a": 4},
    ]


def test_what_is_not_asked_for_is_not_sent(server: FaultServer) -> None:
    task = Task()
    task.run(runtime_env={}, num_cpus=0, num_gpus="", memory=0, resources={}, metadata="")
    assert set(server.submitted(task.id)) == {"entrypoint", "submission_id", "metadata"}


def test_the_connection_has_defaults(server: FaultServer, connect: Callable[..., None]) -> None:
    connect(
        {
            "address": server.address,
            "num_cpus": 4,
            "num_gpus": 1,
            "resources": {"a": 1},
            "runtime_env": {"env_vars": {"A": "1", "B": "1"}, "pip": ["x"]},
            "metadata": '{"team": "x"}',
        },
    )
    task = Task()
    task.run(num_cpus=0, runtime_env={"env_vars": {"B": "2"}})
    body = server.submitted(task.id)
    assert "entrypoint_num_cpus" not in body
    assert body["entrypoint_num_gpus"] == 1
    assert body["entrypoint_resources"] == {"a": 1}
    assert body["runtime_env"] == {"env_vars": {"A": "1", "B": "2"}, "pip": ["x"]}
    assert body["metadata"]["team"] == "x"


def test_a_failure_says_what_ray_says(server: FaultServer) -> None:
    server.control(
        "POST",
        "/script",
        {
            "states": [[0, "RUNNING"], [20, "FAILED"]],
            "exit_code": 3,
            "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR",
            "message": "Job entrypoint command failed.\n" + "\n".join(f"line {n}" for n in range(100)),
        },
    )
    task = Task()
    with pytest.raises(RayJobFailedError) as raised:
        task.run()
    error = raised.value
    assert (error.submission_id, error.status, error.exit_code) == (task.id, "FAILED", 3)
    assert error.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    said = str(error).splitlines()
    assert said[0] == f"Ray job {task.id} has failed (JOB_ENTRYPOINT_COMMAND_ERROR, exit code 3):"
    assert said[1:3] == ["Job entrypoint command failed.", "…"]
    assert str(error).endswith("line 98\nline 99")
    assert len(str(error).splitlines()) < 20
    assert task.xcoms["ray_job_status"] == "FAILED"
    task.retry()
    server.control("POST", "/script", {})
    assert task.run() == task.id
    assert len(server.jobs()) == 2


def test_the_next_attempt_takes_over_what_lives(server: FaultServer) -> None:
    task = Task()
    old = task.id
    server.control("POST", "/script", {"states": RUNS_ON})
    task.run(wait_for_completion=False)
    task.retry()
    server.control("POST", f"/jobs/{old}", {"status": "SUCCEEDED"})
    assert task.run() == old
    assert task.xcoms["ray_job_id"] == old
    assert len(server.jobs()) == 1


def test_a_cleared_task_stops_what_lives_and_starts_anew(server: FaultServer) -> None:
    task = Task()
    old = task.id
    server.control("POST", "/script", {"states": RUNS_ON, "stop_ms": 300})
    task.run(wait_for_completion=False)
    running(server, old)
    task.clear()
    server.control("POST", "/script", {})
    assert task.run() == task.id != old
    assert server.job(old)["status"] == "STOPPED"
    assert server.job(old)["end_time"] <= server.job(task.id)["start_time"]


def test_the_same_attempt_may_run_twice(server: FaultServer) -> None:
    task = Task()
    task.run()
    assert task.run() == task.id
    assert len(server.jobs()) == 1


def test_a_run_made_anew_under_the_same_id_has_jobs_of_its_own(server: FaultServer) -> None:
    task = Task()
    old = task.run()
    task.run_began = datetime.now(UTC)
    assert task.run() == task.id != old
    assert len(server.jobs()) == 2


def test_an_id_of_ones_own(server: FaultServer) -> None:
    task, other = Task(), Task("other")
    assert task.run(submission_id="nightly") == "nightly"
    with pytest.raises(AirflowFailException, match="Ray knows a job nightly already, and it is not this attempt's"):
        other.run(submission_id="nightly")
    task.clear()
    assert task.run(submission_id="nightly") == "nightly-2"


def test_a_lost_result_of_an_earlier_attempt_is_made_again(server: FaultServer) -> None:
    class Reader(SubmitRayJob):
        def _result(self, context: Any, client: RayClient, job: Any) -> Any:
            if job["submission_id"] == old:
                raise ObjectLostError("the result is gone")
            return "result"

    task = Task()
    old = task.id
    with pytest.raises(ObjectLostError):
        task.run(Reader)
    task.retry()
    assert task.run(Reader) == "result"
    assert len(server.jobs()) == 2


def test_a_timeout_stops_the_job(server: FaultServer) -> None:
    server.control("POST", "/script", {"states": RUNS_ON})
    task = Task()
    with pytest.raises(RayJobTimeoutError, match="took longer than the task allows"):
        task.run(job_timeout_seconds="0.5")
    assert server.job(task.id)["status"] == "STOPPED"
    assert task.xcoms["ray_job_status"] == "TIMEOUT"


def test_the_execution_timeout_is_a_deadline_too(server: FaultServer) -> None:
    server.control("POST", "/script", {"states": RUNS_ON})
    task = Task()
    with pytest.raises(RayJobTimeoutError):
        task.run(job_timeout_seconds=0, execution_timeout=timedelta(seconds=0.5), on_kill="leave")
    assert server.job(task.id)["status"] == "RUNNING"


def test_the_timeout_counts_from_the_submission(server: FaultServer) -> None:
    server.control("POST", "/script", {"states": RUNS_ON})
    task = Task()
    task.run(wait_for_completion=False)
    before = server.job(task.id)["start_time"] / 1000
    task.retry()
    with pytest.raises(TaskDeferred) as deferred:
        task.run(deferrable=True, job_timeout_seconds=100)
    assert deferred.value.trigger.deadline == pytest.approx(before + 100, abs=0.01)
    assert deferred.value.timeout is None


def test_a_long_job_is_deferred_with_what_the_trigger_needs(server: FaultServer) -> None:
    server.control("POST", "/script", {"states": RUNS_ON, "log": "one\ntwo\n"})
    task = Task()
    with pytest.raises(TaskDeferred) as deferred:
        task.run(deferrable=True, job_timeout_seconds=0, on_kill="leave")
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airfreight.triggers.ray.RayJobTrigger"
    assert (arguments["job_id"], arguments["conn_id"]) == (task.id, "ray_default")
    assert (arguments["deadline"], arguments["on_kill"]) == (None, "leave")
    assert arguments["cursor"]
    assert arguments["session"]
    assert arguments["attempt"] == {
        "dag_id": "flights",
        "run_id": "r",
        "task_id": "train",
        "map_index": -1,
        "try_number": 1,
    }
    assert deferred.value.method_name == "execute_complete"
    cursor = arguments["cursor"]
    assert task.xcoms["ray_log_cursor"] == {"job": task.id, "try": 1, "cursor": cursor, "complete": True}
    json.dumps(arguments)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"status": "TIMEOUT"}, RayJobTimeoutError),
        ({"status": "GONE"}, RayJobLostError),
        ({"status": "EXCEPTION", "kind": "Unavailable"}, UnavailableError),
        ({"status": "EXCEPTION", "kind": "Denied"}, AirflowFailException),
        ({"status": "EXCEPTION"}, RayJobError),
        ({"status": "FAILED", "job": {"status": "FAILED", "driver_exit_code": 3}}, RayJobFailedError),
    ],
)
def test_how_a_deferred_job_has_ended(event: dict[str, Any], error: type[Exception], server: FaultServer) -> None:
    operator = SubmitRayJob(task_id="train", entrypoint="x")
    with pytest.raises(error, match="what happened" if "job" not in event else "exit code 3"):
        operator.execute_complete(Task().context, {"job_id": "j", "message": "what happened", **event})


def test_events_of_astronomers_trigger_are_understood(server: FaultServer) -> None:
    server.add_job("raysubmit_x", states=[[0, "SUCCEEDED"]])
    event = {
        "status": "SUCCEEDED",
        "message": "Job raysubmit_x completed with status SUCCEEDED",
        "job_id": "raysubmit_x",
    }
    assert SubmitRayJob(task_id="train", entrypoint="x").execute_complete(Task().context, event) == "raysubmit_x"


def test_the_dashboard_may_come_from_an_xcom(server: FaultServer, connect: Callable[..., None]) -> None:
    connect({"address": "http://127.0.0.1:1"})
    task = Task()
    task.xcoms["setup", "dashboard"] = server.address
    task.xcoms["train", "mine"] = server.address
    assert task.run(xcom_task_key="setup.dashboard") == task.id
    assert task.run(xcom_task_key="mine") == task.id
    with pytest.raises(AirflowFailException, match=r"there is no XCom setup\.other"):
        task.run(xcom_task_key="setup.other")


def test_who_is_not_let_in_does_not_retry(server: FaultServer, connect: Callable[..., None]) -> None:
    with FaultServer.start("--token", "the-right-token") as guarded:
        connect({"address": guarded.address}, password="the-wrong-token")
        with pytest.raises(AirflowFailException) as raised:
            Task().run()
        assert "the-wrong-token" not in str(raised.value)
        connect({"address": guarded.address}, password="the-right-token")
        task = Task()
        assert task.run() == task.id


def test_a_silent_cluster_can_be_retried(server: FaultServer, connect: Callable[..., None]) -> None:
    connect({"address": "http://127.0.0.1:1", "patience": 0.2})
    with pytest.raises(UnavailableError):
        Task().run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": "many"}, "num_cpus='many' is not a number"),
        ({"resources": "{"}, "resources is neither a dict nor a JSON object"),
        ({"runtime_env": [1]}, "runtime_env is neither a dict nor a JSON object"),
        ({"ray_cluster_yaml": "no-such.yaml"}, "cannot read ray_cluster_yaml"),
    ],
)
def test_what_makes_no_sense_is_not_retried(options: dict[str, Any], message: str, server: FaultServer) -> None:
    with pytest.raises(AirflowFailException, match=re.escape(message)):
        Task().run(**options)
    assert server.jobs() == []


def test_a_kill_before_the_answer_stops_the_job(server: FaultServer) -> None:
    class Killed(SubmitRayJob):
        def _submission(self, context: Any, client: RayClient) -> dict[str, Any]:
            self._killed = True
            return super()._submission(context, client)

    server.control("POST", "/script", {"states": RUNS_ON})
    task = Task()
    with pytest.raises(Exception):  # noqa: B017, PT011 - it must not wait; Airflow has the state already
        task.run(Killed)
    assert server.job(task.id)["status"] == "STOPPED"


def test_interrupting_stops_the_job(server: FaultServer) -> None:
    class Interrupted(SubmitRayJob):
        def _wait(self, *_: Any) -> Any:
            raise KeyboardInterrupt

    server.control("POST", "/script", {"states": RUNS_ON})
    task = Task()
    with pytest.raises(KeyboardInterrupt):
        task.run(Interrupted)
    assert server.job(task.id)["status"] == "STOPPED"


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED", None])
def test_a_sensor_judges_the_job(status: str | None, server: FaultServer) -> None:
    sensor = RayJobSensor(task_id="wait", job_id="j", deferrable=False)
    if status is None:
        with pytest.raises(LookupError, match="Ray knows no job j"):
            sensor.poke({})  # type: ignore[typeddict-item]
        return
    server.add_job("j", states=[[0, status]])
    if status == "SUCCEEDED":
        assert sensor.poke({}) is True  # type: ignore[typeddict-item]
        assert sensor.job_url.endswith("/#/jobs/j")
    else:
        with pytest.raises(RayJobFailedError, match="Ray job j"):
            sensor.poke({})  # type: ignore[typeddict-item]


def test_a_sensor_waits_for_a_running_job(server: FaultServer) -> None:
    server.add_job("j", states=RUNS_ON)
    assert RayJobSensor(task_id="wait", job_id="j", deferrable=False).poke({}) is False  # type: ignore[typeddict-item]
    with pytest.raises(TaskDeferred) as deferred:
        RayJobSensor(task_id="wait", job_id="j", deferrable=True, timeout=50).execute(Task().context)
    assert deferred.value.trigger.kill_action == "leave"
    assert deferred.value.trigger.deadline is not None


def test_errors_are_not_airflows() -> None:
    assert not issubclass(RayJobError, AirflowException)
    assert issubclass(RayJobTimeoutError, TimeoutError)
