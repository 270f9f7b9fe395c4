"""
### A task on a Ray cluster that is there

The function runs on the cluster, and what it returns is the task's value, as with any other task. `ray` is needed on
the cluster alone.

Needs a connection `ray_default` (or `RAY_ADDRESS` in the workers' environment).
"""

from __future__ import annotations

from airflow.sdk import dag, task

CONFIG = {
    "conn_id": "ray_default",
    "num_cpus": 1,
    "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}},
    "job_timeout_seconds": 600,
}


@dag(schedule=None, tags=["example", "ray"], doc_md=__doc__)
def existing_cluster() -> None:
    @task
    def generate() -> list[int]:
        return [1, 2, 3]

    @task.ray(config=CONFIG)
    def mean_of_squares(numbers: list[int]) -> float:
        import numpy as np
        import ray

        @ray.remote
        def square(number: int) -> int:
            return number**2

        ray.init()
        mean = float(np.mean(ray.get([square.remote(number) for number in numbers])))
        print(f"The mean of {len(numbers)} squares is {mean:.2f}")
        return mean

    @task
    def check(mean: float) -> bool:
        return round(mean, 2) == 4.67

    check(mean_of_squares(generate()))


existing_cluster()
