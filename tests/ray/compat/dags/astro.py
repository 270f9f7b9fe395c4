"""
DAGs as they were written for ``astro-provider-ray``, and a task that it deferred before an upgrade.

The old package serialised its trigger under its own name; ``DeferredBefore`` leaves the same row in Airflow's database.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task
from airflow.triggers.base import BaseTrigger

from ray_provider.decorators import ray
from ray_provider.operators import SubmitRayJob

CONFIG = {
    "conn_id": "ray_cluster_connection",
    "runtime_env": {},
    "num_cpus": 1,
    "num_gpus": 0,
    "memory": 0,
    "poll_interval": 5,
}


class TriggerOfBefore(BaseTrigger):
    """What the old operator deferred to: nothing of it but its row is left."""

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__()
        self.row = row

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return ("ray_provider.triggers.RayJobTrigger", self.row)

    async def run(self) -> Any:
        raise AssertionError("the triggerer makes its own")
        yield


class DeferredBefore(SubmitRayJob):
    """Submits and defers as the old operator did."""

    def execute(self, context: Any) -> Any:
        job_id = self.hook.submit_ray_job(None, entrypoint=self.entrypoint, runtime_env={})
        row = {
            "job_id": job_id,
            "conn_id": self.conn_id,
            "xcom_dashboard_url": None,
            "ray_cluster_yaml": None,
            "gpu_device_plugin_yaml": "",
            "fetch_logs": True,
            "poll_interval": 60,
        }
        self.defer(trigger=TriggerOfBefore(row), method_name="execute_complete")


@dag(schedule=None)
def astro() -> None:
    @task
    def generate() -> list[int]:
        return [1, 2, 3]

    @ray.task(config=CONFIG)
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    total(generate())


@dag(schedule=None)
def astro_deferred() -> None:
    DeferredBefore(
        task_id="waiting",
        conn_id="ray_cluster_connection",
        entrypoint="sleep 8; echo it was worth the wait",
        runtime_env={},
    )


astro()
astro_deferred()
