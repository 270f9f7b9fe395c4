"""
Goal: what the operators do with clusters, and what becomes of clusters when the operators' tasks end in whatever way.

Method: a Kubernetes that needs none and a dashboard without Ray behind its forwarded ports; Airflow's side of it is in
``test_kubernetes_airflow.py``.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airfreight.errors import ConflictError, UnavailableError
from airfreight.hooks.ray import RayHook
from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster, SubmitRayJob
from airfreight.ray import kubernetes
from airfreight.ray.attempt import Attempt
from airfreight.ray.job import RayJobFailedError
from airfreight.ray.kubernetes import KubeCluster
from ray_home.fault_server import FaultServer
from ray_home.kube_server import NAMESPACE, KubeServer, description

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Task

REFERENCE = f"kubernetes://{NAMESPACE}/demo"


def setup(task: Task, cluster: Any = None, **options: Any) -> None:
    given = description() if cluster is None else cluster
    SetupRayCluster(task_id="setup", conn_id="ray_default", ray_cluster_yaml=given, **options).execute(task.context)


def delete(task: Task, cluster: Any = None) -> None:
    given = description() if cluster is None else cluster
    DeleteRayCluster(task_id="delete", conn_id="ray_default", ray_cluster_yaml=given).execute(task.context)


def submit(task: Task, cluster: Any = None, **options: Any) -> Any:
    given = description() if cluster is None else cluster
    options = {"task_id": "train", "entrypoint": "true", "ray_cluster_yaml": given, **options}
    return SubmitRayJob(**options).execute(task.context)


def owner(kube: KubeServer, name: str = "demo") -> str | None:
    found = kube.object(name)
    assert found is not None
    label: str | None = found["metadata"]["labels"].get("airfreight/owner")
    return label


# One cluster for several tasks


def test_a_cluster_is_set_up_used_by_other_tasks_and_deleted(kube: KubeServer, server: FaultServer, task: Task) -> None:
    setup(task)
    assert task.xcoms == {"dashboard": REFERENCE}
    assert (kube.names(), owner(kube)) == (["demo"], None)

    job = SubmitRayJob(task_id="train", entrypoint="true", xcom_task_key="setup.dashboard")
    assert job.execute(task.context) == Attempt.of(task.context).submission_id
    assert server.job(Attempt.of(task.context).submission_id)["status"] == "SUCCEEDED"
    # Nobody else could follow a link into this process.
    assert "ray_job_url" not in task.xcoms
    assert kube.names() == ["demo"]

    delete(task)
    assert (kube.names(), kube.names("pods")) == ([], [])
    delete(task)


@pytest.mark.parametrize("kind", ["text", "path", "relative"])
def test_a_cluster_is_described_in_many_ways(kind: str, kube: KubeServer, task: Task, tmp_path: Path) -> None:
    text = yaml.safe_dump(description())
    (tmp_path / "cluster.yaml").write_text(text)
    given = {"text": text, "path": str(tmp_path / "cluster.yaml"), "relative": "cluster.yaml"}[kind]
    context = task.context
    context["dag"].fileloc = str(tmp_path / "dag.py")
    SetupRayCluster(task_id="setup", conn_id="ray_default", ray_cluster_yaml=given).execute(context)
    assert kube.names() == ["demo"]


def test_each_run_may_have_a_cluster_of_its_own(kube: KubeServer, task: Task) -> None:
    cluster = description()
    cluster["metadata"] = {"generateName": "demo-"}
    setup(task, cluster)
    setup(task, cluster)
    task.instance.run_id = "another"
    setup(task, cluster)
    first, second = kube.names()
    assert first[:5] == second[:5] == "demo-"
    delete(task, cluster)
    assert len(kube.names()) == 1


def test_what_has_changed_is_sent_if_one_wishes(kube: KubeServer, task: Task) -> None:
    setup(task)
    cluster = description()
    cluster["spec"]["workerGroupSpecs"][0]["maxReplicas"] = 5

    def most() -> int:
        found = kube.object("demo")
        assert found is not None
        number: int = found["spec"]["workerGroupSpecs"][0]["maxReplicas"]
        return number

    setup(task, cluster)
    assert most() == 2
    setup(task, cluster, update_if_exists=True)
    assert most() == 5


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("quota", "exceeded quota"),
        ("crash-loop", "has crashed"),
    ],
)
def test_a_cluster_that_cannot_start_says_why_and_is_deleted(
    script: str, why: str, kube: KubeServer, task: Task
) -> None:
    with pytest.raises(UnavailableError, match=why):
        setup(task, description(script=script))
    assert kube.names() == []


def test_a_cluster_that_takes_too_long_says_what_it_waits_for(kube: KubeServer, task: Task) -> None:
    cluster = description(script="unschedulable")
    with pytest.raises(UnavailableError, match=r"is not ready after .*Insufficient cpu"):
        setup(task, cluster, cluster_timeout_seconds=1)
    assert kube.names() == []


def test_a_cluster_of_somebody_else_survives_a_failure(kube: KubeServer, task: Task) -> None:
    cluster = description(script="unschedulable")
    kubernetes.apply(RayHook().connection, cluster, update=False)
    with pytest.raises(UnavailableError, match="is not ready after"):
        setup(task, cluster, cluster_timeout_seconds=1)
    assert kube.names() == ["demo"]


def test_a_killed_setup_leaves_nothing(kube: KubeServer, task: Task) -> None:
    operator = SetupRayCluster(
        task_id="setup", conn_id="ray_default", ray_cluster_yaml=description(script="unschedulable")
    )
    kill_when(operator, lambda: bool(kube.names("pods")))
    with pytest.raises(Exception):  # noqa: B017, PT011 - Airflow ends the process
        operator.execute(task.context)
    until(lambda: not kube.names())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kube_config_path": "/nowhere"}, "cannot use the kubeconfig `/nowhere` to reach Kubernetes"),
        ({"kube_config": "{"}, "cannot use the kubeconfig of the connection to reach Kubernetes"),
    ],
)
def test_a_connection_without_kubernetes_is_not_retried(
    fields: dict[str, Any], message: str, connect: Callable[..., None], task: Task
) -> None:
    connect(fields)
    with pytest.raises(AirflowFailException, match=re.escape(message)):
        setup(task)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-such.yaml", "cannot read ray_cluster_yaml"),
        ("a: [\nb", "ray_cluster_yaml is not YAML"),
        ("a: 1\n---\nb: 2\n", "ray_cluster_yaml has 2 documents"),
        ("- a\n- b\n", "ray_cluster_yaml describes nothing: it holds list, not a mapping"),
        ({"kind": "Pod", "apiVersion": "ray.io/v1"}, 'kind is "Pod", not RayCluster'),
    ],
)
def test_what_describes_no_cluster_is_not_retried(given: Any, message: str, kube: KubeServer, task: Task) -> None:
    with pytest.raises(AirflowFailException, match=re.escape(message)):
        setup(task, given)


def test_a_missing_right_is_named(kube: KubeServer, task: Task) -> None:
    kube.control("POST", "/deny", {"verb": "patch", "resource": "rayclusters"})
    with pytest.raises(AirflowFailException, match='cannot patch resource "rayclusters"'):
        setup(task)


def test_a_kubeconfig_may_be_in_the_connection(kube: KubeServer, task: Task, connect: Callable[..., None]) -> None:
    config = json.loads(kube.kubeconfig.read_text())
    for given in (config, json.dumps(config)):
        connect({"kube_config": given, "cluster_context": "fake", "namespace": "elsewhere"})
        setup(task)
        assert task.xcoms["dashboard"] == "kubernetes://elsewhere/demo"


def test_the_token_of_a_cluster_is_found_by_who_uses_it(task: Task, connect: Callable[..., None]) -> None:
    cluster = description()
    cluster["spec"]["authOptions"] = {"mode": "token"}
    secret = {"metadata": {"name": "demo"}, "data": {"auth_token": "ZXhhbXBsZS1vbmx5"}}
    with (
        FaultServer.start("--token", "example-only") as ray,
        KubeServer.start("--dashboard", f"127.0.0.1:{ray.port}") as kube,
    ):
        connect({"kube_config_path": str(kube.kubeconfig), "patience": 5})
        kube.control("POST", f"/objects/secrets/{NAMESPACE}", secret)
        setup(task, cluster)
        assert task.xcoms == {"dashboard": REFERENCE}
        assert RayHook().ray_client(REFERENCE).jobs() == []


# A cluster for one task


def test_a_task_has_a_cluster_of_its_own(kube: KubeServer, server: FaultServer, task: Task) -> None:
    seen: list[tuple[list[str], str | None]] = []

    class Watched(SubmitRayJob):
        def _submission(self, context: Any, client: Any) -> dict[str, Any]:
            seen.append((kube.names(), owner(kube)))
            return super()._submission(context, client)

    job = Watched(task_id="train", entrypoint="true", ray_cluster_yaml=description(), xcom_task_key="train.dashboard")
    assert job.execute(task.context) == Attempt.of(task.context).submission_id
    assert seen == [(["demo"], Attempt.of(task.context).task)]
    assert kube.names() == []


def test_a_cluster_goes_with_a_job_that_fails(kube: KubeServer, server: FaultServer, task: Task) -> None:
    server.control("POST", "/script", {"states": [[0, "RUNNING"], [50, "FAILED"]]})
    with pytest.raises(RayJobFailedError):
        submit(task)
    assert kube.names() == []


def test_a_cluster_goes_with_a_job_whose_time_is_over(kube: KubeServer, server: FaultServer, task: Task) -> None:
    server.control("POST", "/script", {"states": [[0, "RUNNING"]]})
    with pytest.raises(Exception, match="took longer than the task allows"):
        submit(task, job_timeout_seconds=1)
    assert kube.names() == []


def test_a_cluster_goes_with_a_task_that_is_killed(kube: KubeServer, server: FaultServer, task: Task) -> None:
    server.control("POST", "/script", {"states": [[0, "RUNNING"]]})
    operator = SubmitRayJob(task_id="train", entrypoint="true", ray_cluster_yaml=description())
    kill_when(operator, lambda: bool(server.jobs()))
    with pytest.raises(Exception):  # noqa: B017, PT011 - Airflow ends the process
        operator.execute(task.context)
    until(lambda: not kube.names())


def test_a_job_may_be_left_with_its_cluster(kube: KubeServer, server: FaultServer, task: Task) -> None:
    server.control("POST", "/script", {"states": [[0, "RUNNING"]]})
    with pytest.raises(Exception, match="took longer than the task allows"):
        submit(task, job_timeout_seconds=1, on_kill="leave")
    assert kube.names() == ["demo"]
    assert server.jobs()[0]["status"] == "RUNNING"


def test_a_job_that_nobody_waits_for_keeps_its_cluster(kube: KubeServer, task: Task) -> None:
    submit(task, wait_for_completion=False)
    assert (kube.names(), owner(kube)) == (["demo"], None)


def test_the_next_attempt_takes_over_cluster_and_job(kube: KubeServer, server: FaultServer, task: Task) -> None:
    class Vanishing(SubmitRayJob):
        """Its worker is killed while it waits, and nobody hears of it."""

        def _wait(self, *_: Any, **__: Any) -> dict[str, Any]:
            raise TaskDeferred(trigger=None, method_name="")

    server.control("POST", "/script", {"states": [[0, "RUNNING"], [500, "SUCCEEDED"]]})
    with pytest.raises(TaskDeferred):
        Vanishing(task_id="train", entrypoint="true", ray_cluster_yaml=description()).execute(task.context)
    first = kube.object("demo")
    assert first is not None
    submitted = Attempt.of(task.context).submission_id
    task.instance.try_number += 1
    assert submit(task) == submitted
    assert len(server.jobs()) == 1
    assert len(kube.requests("PATCH", "rayclusters")) == 1
    assert kube.names() == []


def test_a_cluster_that_was_there_before_stays(kube: KubeServer, task: Task, other: Task) -> None:
    setup(other)
    submit(task)
    assert kube.names() == ["demo"]


def test_two_tasks_do_not_share_what_one_of_them_deletes(kube: KubeServer, task: Task, other: Task) -> None:
    kubernetes.apply(RayHook().connection, description(), update=False, attempt=Attempt.of(other.context))
    for use in (submit, setup):
        with pytest.raises(ConflictError, match="belongs to another task"):
            use(task)
    assert owner(kube) == Attempt.of(other.context).task
    made = kube.object("demo")
    assert made is not None
    assert json.loads(made["metadata"]["annotations"]["airfreight/attempt"]) == Attempt.of(other.context).place()
    cluster = description()
    cluster["metadata"] = {"generateName": "demo-"}
    submit(task, cluster)
    assert kube.names() == ["demo"]


def test_a_deferred_task_is_told_when_its_cluster_serves(
    kube: KubeServer, server: FaultServer, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airfreight.operators.ray_cluster._BRIEF_WAIT_SECONDS", 0.1)
    operator = SubmitRayJob(
        task_id="train", entrypoint="true", ray_cluster_yaml=description(script="unschedulable"), deferrable=True
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.context)
    assert kube.names() == ["demo"]
    cluster = deferred.value.trigger.cluster
    assert KubeCluster(**cluster).is_ours
    again = SubmitRayJob(task_id="train", entrypoint="true", ray_cluster_yaml=description(), deferrable=True)
    failed = {"status": "EXCEPTION", "job_id": "", "message": "no room", "kind": "Unavailable", "cluster": cluster}
    with pytest.raises(UnavailableError, match="no room"):
        again.execute_complete(task.context, failed)
    assert kube.names() == []


def test_a_configuration_that_fails_late_takes_the_cluster_along(kube: KubeServer, task: Task) -> None:
    from airfreight.decorators.function import _RayDecoratedOperator

    def config() -> dict[str, Any]:
        raise LookupError("no such region")

    cluster = kubernetes.apply(
        RayHook().connection, description(), update=False, attempt=Attempt.of(task.context), tell=logging.getLogger()
    )
    operator = _RayDecoratedOperator(task_id="train", python_callable=lambda: None, config=config, op_args=())
    with pytest.raises(LookupError, match="no such region"):
        operator.execute_complete(task.context, {"status": "READY", "cluster": cluster.plain()})
    assert kube.names() == []


def kill_when(operator: Any, condition: Callable[[], bool]) -> None:
    """Lets Airflow kill the operator's task, as soon as the condition holds."""
    from threading import Thread

    def watch() -> None:
        until(condition)
        operator.on_kill()

    Thread(target=watch, daemon=True).start()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
