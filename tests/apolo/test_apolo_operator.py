"""Goal: what the operator makes of a job and of its end. Method: a double of the platform, a record of the XComs."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airfreight.apolo.waiting import EXCEPTION, Interrupted
from airfreight.operators.apolo import ApoloRunOperator, JobFailed, RemoteImage, Resources, SecretFile, Volume
from airfreight.operators.neuro import NeuroRunOperator

if TYPE_CHECKING:
    from airfreight._remote import ApoloClient
    from apolo_home import Platform
    from conftest import Task


def plan(*steps: dict[str, Any]) -> str:
    return f"plan {json.dumps(steps)}"


FOREVER = plan({"status": "running"}, {"log": "begun"}, {"sleep": 3600})


def test_a_job_runs_and_its_log_arrives(platform: Platform, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    found = task.run(job_command="sh -c 'echo eins; echo $WORD'", job_environ={"WORD": "zwei"}, job_detach=False)
    assert found == {"id": found["id"], "exit_code": 0, "status": "succeeded", "http_url": ""}
    assert task.xcoms["assigned_job"] == {**found, "exit_code": None, "status": "pending"}
    assert re.findall(r"\] (eins|zwei) ", capsys.readouterr().out) == ["eins", "zwei"]


def test_a_detached_job_is_waited_for_until_it_starts(platform: Platform, task: Task) -> None:
    steps = [{"sleep": 0.3}, {"status": "suspended"}, {"sleep": 0.3}, {"status": "running"}, {"sleep": 60}]
    found = task.run(job_command=plan(*steps), job_name=f"web{time.time_ns()}", job_http_port="8080")
    assert (found["status"], found["exit_code"]) == ("running", None)
    assert found["http_url"] == platform.job(found["id"])["http_url_named"] == task.xcoms["_link_BrowseLink"]


@pytest.mark.parametrize(
    ("end", "words", "code"),
    [
        ({"status": "failed", "reason": "Error", "exit_code": 3}, r"has failed \(exit code 3, Error\)", 3),
        ({"status": "failed", "reason": "NodeLost", "description": "preempted"}, r"\(NodeLost\): preempted", 125),
        ({"status": "cancelled", "reason": "LifeSpanEnded"}, r"was cancelled \(LifeSpanEnded\)", 125),
        ({"status": "cancelled", "reason": "QuotaExhausted"}, r"was cancelled \(QuotaExhausted\)", 125),
    ],
)
def test_only_succeeded_is_success(end: dict[str, Any], words: str, code: int, platform: Platform, task: Task) -> None:
    with pytest.raises(JobFailed, match=words) as failed:
        task.run(job_command=plan({"status": "running"}, end), job_detach=False)
    assert failed.value.exit_code == code
    assert isinstance(failed.value, AirflowException)
    assert isinstance(failed.value, RuntimeError)
    task.retry()
    found = task.run(job_command=plan({"status": "running"}, end), job_detach=False, raise_on_errno=False)
    assert (found["exit_code"], found["status"]) == (code, end["status"])


@pytest.mark.parametrize("detach", [True, False])
def test_a_job_that_never_starts_fails(detach: bool, platform: Platform, task: Task) -> None:
    end = {"status": "failed", "reason": "ClusterScaleUpFailed", "description": "no node came"}
    with pytest.raises(JobFailed, match=r"has failed without having started .*no node came"):
        task.run(job_command=plan({"sleep": 0.3}, end), job_detach=detach)


def test_everything_that_is_asked_for_arrives(platform: Platform, task: Task) -> None:
    task.run(
        job_command="true",
        job_image=RemoteImage("team/img", "1", registry="host:5000"),
        job_volumes=["storage:data:/data:ro", Volume("storage:/side/x", "/x"), SecretFile("secret:key", "/key")],
        job_resources=Resources(memory_mb=2048, cpu=0.5, gpu=1, gpu_model="a100", shm=False),
        job_is_preemptible=True,
        job_tags=["mine"],
        job_description="words",
        job_lifespan=30,
        job_environ={"A": "b", "S": "secret:s"},
        job_secret_environ={"T": "secret:/side/t"},
        job_entrypoint="sh",
        job_http_port=80,
        job_http_auth=False,
        job_tty=False,
        job_restart_policy="on-failure",
        job_schedule_timeout=timedelta(minutes=2),
        job_priority="high",
        job_pass_config=True,
        job_working_dir="/work",
        job_wait_for_quota=True,
        job_cluster="second",
    )
    (request,) = platform.requests("POST", "/jobs")
    body = request["body"]
    assert body.pop("tags")[0] == "mine"
    assert body == {
        "cluster_name": "second",
        "org_name": "org",
        "project_name": "p2",
        "scheduler_enabled": True,
        "description": "words",
        "max_run_time_minutes": 1,
        "schedule_timeout": 120.0,
        "restart_policy": "on-failure",
        "priority": "high",
        "pass_config": True,
        "wait_for_jobs_quota": True,
        "container": {
            "image": "host:5000/team/img:1",
            "command": "true",
            "entrypoint": "sh",
            "working_dir": "/work",
            "http": {"port": 80, "requires_auth": False},
            "env": {"A": "b"},
            "secret_env": {"S": "secret://second/org/p2/s", "T": "secret://second/org/side/t"},
            "volumes": [
                {"src_storage_uri": "storage://second/org/p2/data", "dst_path": "/data", "read_only": True},
                {"src_storage_uri": "storage://second/org/side/x", "dst_path": "/x", "read_only": False},
            ],
            "secret_volumes": [{"src_secret_uri": "secret://second/org/p2/key", "dst_path": "/key"}],
            "resources": {
                "memory": 2 << 30,
                "cpu": 0.5,
                "nvidia_gpu": 1,
                "nvidia_gpu_model": "a100",
                "shm": False,
            },
        },
    }


def test_the_old_defaults_are_kept(platform: Platform, task: Task) -> None:
    task.run(NeuroRunOperator, job_command="true", job_http_port="80")
    (request,) = platform.requests("POST", "/jobs")
    body = request["body"]
    assert body["tty"] is True
    assert body["resources"] == {"shm": True}
    assert body["http"] == {"port": 80, "requires_auth": True}
    operator = task.operator(NeuroRunOperator, job_command="x", neuro_conn_id="other")
    assert (operator.conn_id, operator.kill_on_error, operator.job_detach) == ("other", False, True)
    assert "neuro_conn_id" in operator.template_fields


@pytest.mark.parametrize(
    "options",
    [
        {"job_volumes": "storage:a:/b"},
        {"job_resources": Resources(memory=1, cpu=1), "job_resources_preset": "cpu-small"},
        {"job_resources_preset": None},
    ],
)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any]) -> None:
    options = {"job_resources_preset": "cpu-small", **options}
    with pytest.raises(ValueError, match="job_"):
        ApoloRunOperator(task_id="t", job_command="x", job_image="y", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"job_resources_preset": "nonsense"},
        {"job_image": "Not An Image"},
        {"job_volumes": ["nonsense"]},
        {"job_http_port": "x"},
        {"job_priority": "x"},
        {"job_cluster": "nowhere"},
    ],
)
def test_what_cannot_be_right_is_not_retried_and_not_posted(
    options: dict[str, Any], platform: Platform, task: Task
) -> None:
    with pytest.raises(AirflowFailException):
        task.run(job_command="true", **options)
    assert not platform.requests("POST", "/jobs")


def test_a_retry_takes_over_the_job_that_lives(platform: Platform, task: Task) -> None:
    first = task.run(job_command=plan({"status": "running"}, {"sleep": 2}, {"status": "succeeded", "exit_code": 0}))
    task.retry()
    assert task.run(job_command="true", job_detach=False)["id"] == first["id"]


def test_a_retry_takes_the_result_that_nobody_has_delivered(platform: Platform, task: Task) -> None:
    first = task.run(job_command="true", job_detach=False)
    task.retry()
    assert task.run(job_command="false", job_detach=False)["id"] == first["id"]


def test_a_retry_after_a_failure_runs_a_new_job(platform: Platform, task: Task) -> None:
    with pytest.raises(JobFailed):
        task.run(job_command="false", job_detach=False)
    task.retry()
    assert task.run(job_command="true", job_detach=False)["status"] == "succeeded"


def test_without_reattach_the_old_job_is_cancelled(platform: Platform, task: Task) -> None:
    first = task.run(job_command=FOREVER)
    task.retry()
    second = task.run(job_command="true", reattach=False)
    assert second["id"] != first["id"]
    assert platform.job(first["id"])["status"] == "cancelled"


@pytest.mark.parametrize(("kind", "status"), [(ApoloRunOperator, "cancelled"), (NeuroRunOperator, "running")])
def test_clearing_cancels_the_old_job_unless_it_is_to_live(
    kind: type[ApoloRunOperator], status: str, platform: Platform, task: Task
) -> None:
    first = task.run(kind, job_command=FOREVER)
    task.clear()
    assert task.run(kind, job_command=FOREVER)["id"] != first["id"]
    assert platform.job(first["id"])["status"] == status


def test_runs_do_not_take_each_others_jobs(platform: Platform, task: Task) -> None:
    first = task.run(job_command=FOREVER)
    task.run_began += timedelta(seconds=1)
    assert task.run(job_command=FOREVER)["id"] != first["id"]


@pytest.mark.parametrize(("kind", "status"), [(ApoloRunOperator, "cancelled"), (NeuroRunOperator, "running")])
def test_a_kill_cancels_the_job_at_once(
    kind: type[ApoloRunOperator], status: str, platform: Platform, task: Task
) -> None:
    operator = task.operator(kind, job_command=FOREVER, job_detach=False)
    before = signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    try:
        killer = threading.Thread(target=_kill_when_running, args=(platform, task))
        killer.start()
        with pytest.raises(Interrupted):
            operator.execute(task.context)
        killer.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert operator.job is not None
    assert platform.job(operator.job["id"])["status"] == status


def _kill_when_running(platform: Platform, task: Task) -> None:
    platform.wait_for(lambda: "assigned_job" in task.xcoms, "the job")
    job_id = task.xcoms["assigned_job"]["id"]
    platform.wait_for(lambda: platform.job(job_id)["status"] == "running", "the job to run")
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("detach", "until"), [(True, "start"), (False, "end")])
def test_what_takes_long_is_left_to_the_triggerer(
    detach: bool, until: str, platform: Platform, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airfreight.operators.apolo._BRIEF_WAIT_SECONDS", 0.3)
    operator = task.operator(job_command=plan({"sleep": 3600}), job_detach=detach, deferrable=True, poll_interval=7)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airfreight.triggers.apolo.ApoloJobTrigger"
    assert (arguments["until"], arguments["poll_interval"], arguments["on_kill"]) == (until, 7, "stop")
    assert platform.token not in json.dumps(arguments)
    platform.end(arguments["job_id"], status="failed", reason="Error", exit_code=2)
    end = {"status": "failed", "job_id": arguments["job_id"], "job": platform.job(arguments["job_id"])}
    with pytest.raises(JobFailed, match="exit code 2"):
        task.operator(job_command="x", job_detach=detach).execute_complete(task.context, end)


def test_what_fails_after_the_triggerer_leaves_no_job_behind(
    platform: Platform, task: Task, client: ApoloClient
) -> None:
    job = client.create({"image": "ubuntu", "command": FOREVER, "preset": "cpu-small"})
    platform.wait_for(lambda: platform.job(job["id"])["status"] == "running", "the job to run")
    event = {"status": EXCEPTION, "kind": "Denied", "message": "the token is out of date", "job_id": job["id"]}
    with pytest.raises(AirflowFailException, match="out of date"):
        task.operator(job_command=FOREVER).execute_complete(task.context, event)
    assert platform.job(job["id"])["status"] == "cancelled"


def test_objects_of_the_sdk_are_taken() -> None:
    from airfreight.apolo import spec

    image = SimpleNamespace(as_docker_url=lambda: "a/b:1")
    assert spec.image(image)["docker_image"] == "a/b:1"
    old = SimpleNamespace(memory_mb=1024, cpu=1, gpu=2, gpu_model="k80", shm=True, tpu_type=None)
    assert spec.resources(old) == {
        "memory": 1 << 30,
        "cpu": 1,
        "shm": True,
        "nvidia_gpu": 2,
        "nvidia_gpu_model": "k80",
    }
