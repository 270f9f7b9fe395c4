"""
Goal: on a real Kubernetes with a real KubeRay operator, clusters come up, do work, say why they don't, and are gone.

Method: ``make test-kube``, with whichever kubeconfig ``KUBECONFIG`` or ``~/.kube/config`` is. It makes objects in one
namespace and removes them; each cluster wants two CPUs and 3 GiB. What can be chosen:

=================================  ======================================  ============================
variable                           meaning                                 default
=================================  ======================================  ============================
``AIRFREIGHT_TEST_NAMESPACE``      where                                   the kubeconfig's
``AIRFREIGHT_TEST_RAY_IMAGE``      Ray                                     ``rayproject/ray:2.53.0``
``AIRFREIGHT_TEST_KUBERAY``        the KubeRay to install if there's none  none: the tests are skipped
=================================  ======================================  ============================
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airfreight._remote import KubeClusters
from airfreight.errors import UnavailableError
from airfreight.operators.kuberay import RunRayJob
from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster, SubmitRayJob
from airfreight.ray.job import RayJobError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.kube, pytest.mark.timeout(1800)]

IMAGE = os.environ.get("AIRFREIGHT_TEST_RAY_IMAGE", "rayproject/ray:2.53.0")
COUNT = 'python -c "import ray; ray.init(); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"'


class Run:
    """A DAG run of its own, with the XComs of its tasks."""

    def __init__(self) -> None:
        self.id = f"run-{uuid4().hex[:8]}"
        self.began = datetime.now(UTC)
        self.xcoms: dict[tuple[str, str], Any] = {}

    def context(self, task: str, try_number: int = 1) -> Any:
        instance = SimpleNamespace(
            dag_id="real_kubernetes",
            run_id=self.id,
            task_id=task,
            map_index=-1,
            try_number=try_number,
            max_tries=1,
            start_date=datetime.now(UTC),
            xcom_push=lambda key, value: self.xcoms.update({(task, key): value}),
            xcom_pull=lambda task_ids, key: self.xcoms.get((task_ids, key)),
        )
        dag = SimpleNamespace(fileloc=__file__)
        return {"ti": instance, "dag_run": SimpleNamespace(start_date=self.began), "dag": dag}


@pytest.fixture(scope="module")
def kube() -> Iterator[KubeClusters]:
    """The API server, with KubeRay; the connection ``ray_default`` leads there."""
    extra = {"namespace": namespace} if (namespace := os.environ.get("AIRFREIGHT_TEST_NAMESPACE")) else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "ray", "extra": extra}))
        server = KubeClusters(namespace=namespace)
        if server.operator() is None and not os.environ.get("AIRFREIGHT_TEST_KUBERAY"):
            pytest.skip("there is no KubeRay; AIRFREIGHT_TEST_KUBERAY names a version to install")
        yield server


def cluster(**head: Any) -> dict[str, Any]:
    """A cluster of one head and one worker, whose name is the run's."""

    def pod(**container: Any) -> dict[str, Any]:
        resources = {"limits": {"cpu": "1", "memory": "1500Mi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}
        return {"spec": {"containers": [{"name": "ray", "image": IMAGE, "resources": resources, **container}]}}

    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"generateName": "airfreight-test-"},
        "spec": {
            "headGroupSpec": {"rayStartParams": {}, "template": pod(**head)},
            "workerGroupSpecs": [
                {
                    "groupName": "small",
                    "replicas": 1,
                    "minReplicas": 1,
                    "maxReplicas": 1,
                    "rayStartParams": {},
                    "template": pod(),
                }
            ],
        },
    }


def left(kube: KubeClusters) -> list[str]:
    """The clusters that Airfreight has made and nobody has deleted."""
    return [each["name"] for each in kube.list(kube.place()[1]) if each["name"].startswith("airfreight-test-")]


def test_a_cluster_is_set_up_used_and_deleted(kube: KubeClusters) -> None:
    run = Run()
    SetupRayCluster(
        task_id="setup",
        conn_id="ray_default",
        ray_cluster_yaml=cluster(),
        kuberay_version=os.environ.get("AIRFREIGHT_TEST_KUBERAY"),
        deferrable=False,
    ).execute(run.context("setup"))
    try:
        submit = SubmitRayJob(
            task_id="count", entrypoint=COUNT, xcom_task_key="setup.dashboard", num_cpus=0, deferrable=False
        )
        submit.execute(run.context("count"))
        assert "42" in submit.client.logs(submit.job_id)
    finally:
        delete = DeleteRayCluster(task_id="delete", conn_id="ray_default", ray_cluster_yaml=cluster())
        delete.execute(run.context("delete"))
    assert left(kube) == []


def test_a_cluster_of_a_task_goes_with_a_failure(kube: KubeClusters) -> None:
    submit = SubmitRayJob(task_id="fail", entrypoint="exit 3", ray_cluster_yaml=cluster(), num_cpus=0, deferrable=False)
    with pytest.raises(RayJobError, match="exit code 3"):
        submit.execute(Run().context("fail"))
    deadline = time.monotonic() + 300
    # The task doesn't wait for its end.
    while left(kube):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_an_image_that_is_not_there_is_said(kube: KubeClusters) -> None:
    setup = SetupRayCluster(
        task_id="setup",
        conn_id="ray_default",
        ray_cluster_yaml=cluster(image="airfreight.invalid/none:0"),
        cluster_timeout_seconds=300,
        deferrable=False,
    )
    with pytest.raises(UnavailableError, match=r"airfreight\.invalid/none:0"):
        setup.execute(Run().context("setup"))
    assert left(kube) == []


def test_a_job_of_kuberay_s_own_runs(kube: KubeClusters) -> None:
    job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"generateName": "airfreight-test-"},
        "spec": {"entrypoint": COUNT, "submissionMode": "HTTPMode", "rayClusterSpec": cluster()["spec"]},
    }
    run = Run()
    named = RunRayJob(task_id="job", conn_id="ray_default", ray_job_yaml=job, deferrable=False).execute(
        run.context("job")
    )
    assert run.xcoms["job", "ray_job_id"]
    namespace, name = named.split("/")
    assert kube.get(namespace, name, kind="RayJob") is None
