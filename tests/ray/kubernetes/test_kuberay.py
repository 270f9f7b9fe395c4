"""
Goal: there is one ``RayJob`` per task, however its attempts end, and a ``RayService`` serves when its task is done.

Method: a Kubernetes that needs none, with an operator that plays what an annotation asks for.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airfreight.errors import ConflictError, InvalidError, UnavailableError
from airfreight.operators.kuberay import DeleteRayService, RunRayJob, SetupRayService
from airfreight.ray.job import RayJobFailedError, RayJobTimeoutError
from airfreight.ray.waiting import Interrupted
from airfreight.triggers.kuberay import KubeRayTrigger
from ray_home.kube_server import NAMESPACE, REPOSITORY, description

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Task
    from ray_home.fault_server import FaultServer
    from ray_home.kube_server import KubeServer

JOBS, SERVICES = "rayjobs", "rayservices"


def ray_job(work: str, script: str | None = None, **metadata: Any) -> dict[str, Any]:
    annotations = {"test/work": work, **({} if script is None else {"test/script": script})}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"annotations": annotations, **(metadata or {"name": "job"})},
        "spec": {"entrypoint": "python train.py", "rayClusterSpec": description()["spec"]},
    }


def ray_service(work: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "model", "annotations": {"test/work": work}, **metadata},
        "spec": {"serveConfigV2": "applications: []", "rayClusterConfig": description()["spec"]},
    }


def run(task: Task, given: Any, **options: Any) -> str:
    return RunRayJob(task_id="train", conn_id="ray_default", ray_job_yaml=given, **options).execute(task.context)


def serve(task: Task, given: Any, **options: Any) -> str:
    return SetupRayService(task_id="serve", conn_id="ray_default", ray_service_yaml=given, **options).execute(
        task.context
    )


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def status(kube: KubeServer, name: str = "job") -> str:
    found = kube.object(name, JOBS)
    return str(((found or {}).get("status") or {}).get("jobDeploymentStatus"))


def test_a_job_runs_its_log_arrives_and_nothing_stays(
    kube: KubeServer, server: FaultServer, task: Task, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add_job("job-q9d4t", log="one\ntwo\n")
    assert run(task, ray_job("succeeds")) == f"{NAMESPACE}/job"
    assert task.xcoms == {"ray_job_id": "job-q9d4t"}
    said = capsys.readouterr().out
    assert [word for word in ("its cluster is starting", "runs", "is complete", "one", "two") if word not in said] == []
    wait_for(lambda: kube.names(JOBS) == kube.names() == kube.names("pods") == [])


def test_the_example_s_job_runs(kube: KubeServer, task: Task) -> None:
    given = yaml.safe_load((REPOSITORY / "examples" / "ray" / "job.yaml").read_text())
    given["metadata"]["annotations"] = {"test/work": "succeeds"}
    assert run(task, given).startswith(f"{NAMESPACE}/airfreight-example-")


def test_a_job_that_fails_says_why(kube: KubeServer, task: Task) -> None:
    with pytest.raises(RayJobFailedError, match=r"RayJob demo/job has failed(.|\n)*AppFailed(.|\n)*exit code 3"):
        run(task, ray_job("fails"))
    wait_for(lambda: kube.names(JOBS) == [])


def test_a_cluster_that_cannot_start_ends_its_job(kube: KubeServer, task: Task) -> None:
    with pytest.raises(UnavailableError, match="exceeded quota"):
        run(task, ray_job("succeeds", script="quota"))
    wait_for(lambda: kube.names(JOBS) == kube.names() == [])


def test_what_the_operator_refuses_is_a_failure(kube: KubeServer, task: Task) -> None:
    with pytest.raises(RayJobFailedError, match="backoffLimit"):
        run(task, ray_job("refused"))


@pytest.mark.parametrize(
    ("cleanup", "work", "left"),
    [
        ("success", "succeeds", []),
        ("success", "fails", ["job"]),
        ("never", "succeeds", ["job"]),
        ("never", "fails", ["job"]),
    ],
)
def test_jobs_stay_where_one_wishes(cleanup: str, work: str, left: list[str], kube: KubeServer, task: Task) -> None:
    try:
        run(task, ray_job(work), cleanup=cleanup)
    except RayJobFailedError:
        assert work == "fails"
    wait_for(lambda: kube.names(JOBS) == left)


def test_time_ends(kube: KubeServer, task: Task) -> None:
    with pytest.raises(RayJobTimeoutError, match="took longer than the task allows"):
        run(task, ray_job("runs"), job_timeout_seconds=1)
    wait_for(lambda: kube.names(JOBS) == [])


def vanish(task: Task, kube: KubeServer, given: dict[str, Any]) -> dict[str, Any]:
    """An attempt whose worker dies while its job runs."""
    from airfreight.hooks.ray import RayHook
    from airfreight.ray import kuberay
    from airfreight.ray.attempt import Attempt

    made = kuberay.begin(RayHook().connection, given, Attempt.of(task.context), log())
    wait_for(lambda: status(kube, made.name) not in ("None", ""))
    found = kube.object(made.name, JOBS)
    assert found is not None
    return found


def log() -> Any:
    import logging

    return logging.getLogger("test")


def test_a_retry_takes_over_what_a_vanished_attempt_has_left(kube: KubeServer, task: Task) -> None:
    left = vanish(task, kube, ray_job("succeeds"))
    task.instance.try_number += 1
    assert run(task, ray_job("succeeds"), cleanup="never") == f"{NAMESPACE}/job"
    (name,) = kube.names(JOBS)
    found = kube.object(name, JOBS)
    assert found is not None
    assert found["metadata"]["uid"] == left["metadata"]["uid"]


def test_a_retry_after_a_failure_makes_a_new_job(kube: KubeServer, task: Task) -> None:
    with pytest.raises(RayJobFailedError):
        run(task, ray_job("fails"), cleanup="never")
    old = kube.object("job", JOBS)
    task.instance.try_number += 1
    run(task, ray_job("succeeds"), cleanup="never")
    new = kube.object("job", JOBS)
    assert old is not None
    assert new is not None
    assert new["metadata"]["uid"] != old["metadata"]["uid"]


def test_a_clear_deletes_what_lives_of_the_old_job(kube: KubeServer, task: Task) -> None:
    left = vanish(task, kube, ray_job("runs", generateName="job-", name="job-old"))
    task.instance.try_number += 1
    task.instance.max_tries += 1
    done = run(task, ray_job("succeeds", generateName="job-"), cleanup="never")
    assert done != f"{NAMESPACE}/job-old"
    assert left["metadata"]["name"] not in kube.names(JOBS)
    assert len(kube.names(JOBS)) == 1


def test_a_job_that_is_being_deleted_is_not_taken_over(kube: KubeServer, task: Task) -> None:
    left = vanish(task, kube, ray_job("runs", generateName="job-", name="job-old"))
    left["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    kube.control("POST", f"/objects/{JOBS}/{NAMESPACE}", left)
    task.instance.try_number += 1
    assert run(task, ray_job("succeeds", generateName="job-")) != f"{NAMESPACE}/job-old"


def test_a_job_of_somebody_elses_is_left_alone(kube: KubeServer, task: Task, other: Task) -> None:
    vanish(other, kube, ray_job("runs"))
    with pytest.raises(ConflictError, match="belongs to another task"):
        run(task, ray_job("succeeds"))
    kube.control("DELETE", f"/objects/{JOBS}/{NAMESPACE}/job")
    kube.control("POST", f"/objects/{JOBS}/{NAMESPACE}", {**ray_job("runs"), "metadata": {"name": "job"}})
    with pytest.raises(ConflictError, match="is there already"):
        run(task, ray_job("succeeds"))
    assert kube.names(JOBS) == ["job"]


@pytest.mark.parametrize(
    ("action", "left", "clusters"), [("delete", [], 0), ("leave", ["job"], 1), ("suspend", ["job"], 0)]
)
def test_a_kill_does_what_one_wishes(action: str, left: list[str], clusters: int, kube: KubeServer, task: Task) -> None:
    operator = RunRayJob(task_id="train", conn_id="ray_default", ray_job_yaml=ray_job("runs"), on_kill=action)
    before = signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())

    def kill() -> None:
        wait_for(lambda: status(kube) == "Running")
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(Interrupted):
            operator.execute(task.context)
    finally:
        killer.join()
        signal.signal(signal.SIGTERM, before)
    wait_for(lambda: (kube.names(JOBS), len(kube.names())) == (left, clusters))


def test_a_suspended_job_goes_on_with_the_next_attempt(kube: KubeServer, task: Task) -> None:
    left = vanish(task, kube, ray_job("succeeds", script="unseen"))
    left["spec"]["suspend"] = True
    kube.control("POST", f"/objects/{JOBS}/{NAMESPACE}", left)
    wait_for(lambda: status(kube) == "Suspended")
    task.instance.try_number += 1
    task.instance.max_tries += 1
    script = kube.object("job", JOBS)
    assert script is not None
    script["metadata"]["annotations"]["test/script"] = "healthy"
    kube.control("POST", f"/objects/{JOBS}/{NAMESPACE}", script)
    run(task, ray_job("succeeds"), on_kill="suspend", cleanup="never")
    found = kube.object("job", JOBS)
    assert found is not None
    assert (found["metadata"]["uid"], found["spec"]["suspend"]) == (left["metadata"]["uid"], False)


def defer(operator: Any, task: Task, monkeypatch: pytest.MonkeyPatch) -> KubeRayTrigger:
    monkeypatch.setattr("airfreight.operators.kuberay._BRIEF_WAIT_SECONDS", 0.2)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.context)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airfreight.triggers.kuberay.KubeRayTrigger"
    return KubeRayTrigger(**json.loads(json.dumps(arguments)))


def end_of(made: KubeRayTrigger) -> dict[str, Any]:
    async def events() -> list[Any]:
        return [event.payload async for event in made.run()]

    (payload,) = asyncio.run(events())
    found: dict[str, Any] = json.loads(json.dumps(payload))
    return found


def test_what_takes_long_is_left_to_the_triggerer(
    kube: KubeServer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.script("healthy", 300)
    operator = RunRayJob(task_id="train", conn_id="ray_default", ray_job_yaml=ray_job("succeeds"), deferrable=True)
    end = end_of(defer(operator, task, monkeypatch))
    assert end["status"] == "SUCCEEDED"
    again = RunRayJob(task_id="train", conn_id="ray_default", ray_job_yaml=ray_job("succeeds"))
    assert again.execute_complete(task.context, end) == f"{NAMESPACE}/job"
    wait_for(lambda: kube.names(JOBS) == [])


@pytest.mark.parametrize(("action", "left"), [("delete", []), ("suspend", ["job"]), ("leave", ["job"])])
def test_a_kill_reaches_a_deferred_task(
    action: str, left: list[str], kube: KubeServer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = RunRayJob(
        task_id="train", conn_id="ray_default", ray_job_yaml=ray_job("runs"), deferrable=True, on_kill=action
    )
    made = defer(operator, task, monkeypatch)
    wait_for(lambda: status(kube) == "Running")
    asyncio.run(made._abandon("the task was killed"))
    wait_for(lambda: kube.names(JOBS) == left)
    if action == "suspend":
        wait_for(lambda: status(kube) == "Suspended")


def test_an_error_in_the_triggerer_cleans_up_in_the_worker(
    kube: KubeServer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ray_job("succeeds", script="unschedulable")
    options: dict[str, Any] = {"task_id": "train", "conn_id": "ray_default", "ray_job_yaml": given}
    made = defer(RunRayJob(**options, deferrable=True, job_timeout_seconds=2), task, monkeypatch)
    end = end_of(made)
    with pytest.raises(RayJobTimeoutError, match="longer than the task allows"):
        RunRayJob(**options).execute_complete(task.context, end)
    wait_for(lambda: kube.names(JOBS) == [])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (description(), AirflowFailException, "ray_job_yaml describes a RayCluster, not a RayJob"),
        ({"kind": "RayJob"}, AirflowFailException, "it has no apiVersion"),
        ("no-such.yaml", AirflowFailException, "cannot read ray_job_yaml"),
    ],
)
def test_descriptions_without_meaning_are_refused(
    given: Any, error: type[Exception], words: str, kube: KubeServer, task: Task
) -> None:
    with pytest.raises(error, match=words):
        run(task, given)
    assert kube.names(JOBS) == []


@pytest.mark.parametrize("option", [{"on_kill": "stop"}, {"cleanup": "sometimes"}])
def test_options_without_meaning_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="is none of"):
        RunRayJob(task_id="train", conn_id="ray_default", ray_job_yaml={}, **option)


# Services


def test_a_service_is_set_up_changed_and_deleted(kube: KubeServer, task: Task) -> None:
    address = f"http://model-serve-svc.{NAMESPACE}.svc:8000"
    assert serve(task, ray_service("serves")) == address
    changed = ray_service("serves")
    changed["spec"]["serveConfigV2"] = "applications: [{}]"
    assert serve(task, changed, update_if_exists=False) == address
    found = kube.object("model", SERVICES)
    assert found is not None
    assert found["spec"]["serveConfigV2"] == "applications: []"
    remove = DeleteRayService(task_id="delete", conn_id="ray_default", ray_service_yaml=changed)
    remove.execute(task.context)
    assert kube.names(SERVICES) == []
    remove.execute(task.context)


def test_a_service_that_does_not_come_to_serve_is_deleted_by_who_has_made_it(kube: KubeServer, task: Task) -> None:
    for made_before, left in ((False, []), (True, ["model"])):
        if made_before:
            kube.control("POST", f"/objects/{SERVICES}/{NAMESPACE}", ray_service("fails"))
        with pytest.raises(UnavailableError, match="DEPLOY_FAILED"):
            serve(task, ray_service("fails"), service_timeout_seconds=2)
        wait_for(lambda left=left: kube.names(SERVICES) == left)


def test_a_service_is_waited_for_in_the_triggerer(
    kube: KubeServer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube.script("healthy", 300)
    options: dict[str, Any] = {"task_id": "s", "conn_id": "ray_default", "ray_service_yaml": ray_service("serves")}
    end = end_of(defer(SetupRayService(**options, deferrable=True), task, monkeypatch))
    assert SetupRayService(**options).execute_complete(task.context, end).startswith("http://model-serve-svc.")
    assert kube.names(SERVICES) == ["model"]
