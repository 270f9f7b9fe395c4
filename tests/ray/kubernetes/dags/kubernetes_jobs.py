"""Tasks with clusters of their own, and a cluster for two tasks; a run's configuration says what becomes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster, SubmitRayJob

PARAMS = {"command": "echo hello", "script": "healthy"}


def cluster(name: str, script: str = "{{ params.script }}") -> dict[str, Any]:
    """``script`` is what the operator does with it."""
    group = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray"}]}}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, "annotations": {"test/script": script}},
        "spec": {"rayVersion": "2.60.0", "headGroupSpec": group},
    }


for name, deferrable in {"kube_deferred": True, "kube_in_worker": False}.items():
    with DAG(name, params=PARAMS, schedule=None):
        SubmitRayJob(
            task_id="job",
            conn_id="ray_kubernetes",
            ray_cluster_yaml=cluster(name.replace("_", "-")),
            entrypoint="{{ params.command }}",
            retries=1,
            retry_delay=timedelta(0),
            deferrable=deferrable,
        )

with DAG("kube_shared", params=PARAMS, schedule=None):
    shared = {"conn_id": "ray_kubernetes", "ray_cluster_yaml": cluster("kube-shared")}
    setup = SetupRayCluster(task_id="setup", deferrable=True, **shared).as_setup()
    delete = DeleteRayCluster(task_id="delete", **shared).as_teardown(setups=setup)
    job = SubmitRayJob(
        task_id="job",
        conn_id="ray_kubernetes",
        entrypoint="{{ params.command }}",
        xcom_task_key="setup.dashboard",
        deferrable=True,
    )
    setup >> job >> delete

for mode in ("auto", "warm"):
    with DAG(f"kube_function_{mode}", schedule=None):

        @task.ray(
            conn_id="ray_kubernetes",
            mode=mode,
            config={
                "ray_cluster_yaml": cluster(f"kube-function-{mode}", "healthy"),
                "runtime_env": {"env_vars": {"A": "b"}},
            },
        )
        def numbers(count: int) -> list[int]:
            return list(range(count))

        @task
        def total(found: list[int]) -> int:
            return sum(found)

        total(numbers(100_000))
