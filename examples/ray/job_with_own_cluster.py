"""
### A job with a cluster of its own

One operator makes the cluster, runs the script on it and deletes it.

Needs Kubernetes with the KubeRay operator, and a connection `ray_kubernetes` that leads there.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airfreight.operators.ray import SubmitRayJob

HERE = Path(__file__).parent


@dag(schedule=None, tags=["example", "ray", "kubernetes"], doc_md=__doc__)
def job_with_own_cluster() -> None:
    SubmitRayJob(
        task_id="hello",
        conn_id="ray_kubernetes",
        entrypoint="python hello.py Kubernetes",
        runtime_env={"working_dir": str(HERE / "scripts")},
        # Of the job's own process; the CPUs are for its tasks.
        num_cpus=0,
        ray_cluster_yaml=str(HERE / "cluster.yaml"),
        xcom_task_key="hello.dashboard",
        fetch_logs=True,
        wait_for_completion=True,
        job_timeout_seconds=600,
    )


job_with_own_cluster()
