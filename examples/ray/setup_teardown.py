"""
### A cluster for several jobs

Set up once, used by two jobs at the same time, torn down after them whether they succeeded or not. The jobs find the
cluster by the XCom `dashboard` of the task that made it.

Needs Kubernetes with the KubeRay operator, and a connection `ray_kubernetes` that leads there.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster, SubmitRayJob

HERE = Path(__file__).parent
CLUSTER = str(HERE / "cluster.yaml")


@dag(schedule=None, tags=["example", "ray", "kubernetes"], doc_md=__doc__)
def setup_teardown() -> None:
    setup = SetupRayCluster(
        task_id="setup", conn_id="ray_kubernetes", ray_cluster_yaml=CLUSTER, update_if_exists=False
    ).as_setup()
    delete = DeleteRayCluster(task_id="delete", conn_id="ray_kubernetes", ray_cluster_yaml=CLUSTER).as_teardown()
    for name in ("morning", "evening"):
        job = SubmitRayJob(
            task_id=name,
            conn_id="ray_kubernetes",
            entrypoint=f"python hello.py {name}",
            runtime_env={"working_dir": str(HERE / "scripts")},
            num_cpus=1,
            xcom_task_key="setup.dashboard",
        )
        setup >> job >> delete
    setup >> delete


setup_teardown()
