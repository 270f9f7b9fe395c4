"""
### A cluster for several jobs

Set up once, used by two jobs at the same time, torn down after them whether they succeeded or not. The jobs find the
cluster by the XCom `dashboard` of the task that made it. Their own processes take no CPU of the cluster's (`num_cpus`):
two that held one each while they wait for their tasks could leave none for these.

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
            xcom_task_key="setup.dashboard",
        )
        setup >> job >> delete
    setup >> delete


setup_teardown()
