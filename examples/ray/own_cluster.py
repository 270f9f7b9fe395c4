"""
### A task with a cluster of its own

The cluster is made before the function runs and deleted after it, however that ends.

Needs Kubernetes with the KubeRay operator, and a connection `ray_kubernetes` that leads there.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag, task

CONFIG = {
    "conn_id": "ray_kubernetes",
    "ray_cluster_yaml": str(Path(__file__).parent / "cluster.yaml"),
    "num_cpus": 1,
    "xcom_task_key": "dashboard",
}


@dag(schedule=None, tags=["example", "ray", "kubernetes"], doc_md=__doc__)
def own_cluster() -> None:
    @task.bash
    def activate_service_account() -> str:
        """Only where the connection's kubeconfig signs in through a program, such as that of Google Cloud."""
        return 'gcloud auth activate-service-account --key-file="$GOOGLE_APPLICATION_CREDENTIALS"'

    @task
    def generate() -> list[int]:
        return [1, 2, 3]

    @task.ray(config=CONFIG)
    def mean_of_squares(numbers: list[int]) -> float:
        import ray

        @ray.remote
        def square(number: int) -> int:
            return number**2

        ray.init()
        return sum(ray.get([square.remote(number) for number in numbers])) / len(numbers)

    activate_service_account() >> mean_of_squares(generate())


own_cluster()
