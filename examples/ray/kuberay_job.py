"""
### A job of KubeRay's

A `RayJob` as for `kubectl apply`: KubeRay makes a cluster for it and submits its entry point. The task waits for its
end, copies its log, and deletes it.

Needs Kubernetes with the KubeRay operator, and a connection `ray_kubernetes` that leads there.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airfreight.operators.kuberay import RunRayJob

HERE = Path(__file__).parent


@dag(schedule=None, tags=["example", "ray", "kubernetes"], doc_md=__doc__)
def kuberay_job() -> None:
    RunRayJob(task_id="hello", conn_id="ray_kubernetes", ray_job_yaml=str(HERE / "job.yaml"))


kuberay_job()
