"""One Ray job per DAG, waited for in every way; a run's configuration says what the job does."""

from __future__ import annotations

import json
import urllib.request
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, get_current_context

from airfreight.operators.ray import SubmitRayJob
from airfreight.ray import versions
from airfreight.sensors.ray import RayJobSensor

PARAMS = {"command": "echo hello", "timeout": 600, "on_kill": "stop"}


class MarkedMeanwhile(SubmitRayJob):
    """Its user marks it failed in the very moment in which it defers."""

    def defer(self, **how: Any) -> Any:
        if versions.ends_refused_tasks():
            self._mark()
        super().defer(**how)

    def _defer(self, *arguments: Any, **how: Any) -> Any:
        if not versions.ends_refused_tasks():
            self._mark()
        super()._defer(*arguments, **how)

    def _mark(self) -> None:
        params = get_current_context()["params"]
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {params['token']}"}
        body = json.dumps({"new_state": "failed"}).encode()
        task = get_current_context()["ti"]
        url = f"{params['url']}/api/v2/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}"
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PATCH")).close()


for name, options in {
    "ray_deferred": {"deferrable": True},
    "ray_in_worker": {"deferrable": False},
    "ray_left": {"wait_for_completion": False},
    "ray_unkilled": {"deferrable": True, "on_kill": "leave"},
}.items():
    with DAG(name, params=PARAMS, schedule=None):
        SubmitRayJob(
            task_id="job",
            conn_id="ray_test",
            entrypoint="{{ params.command }}",
            job_timeout_seconds="{{ params.timeout }}",
            retries=1,
            retry_delay=timedelta(0),
            **options,
        )

with DAG("ray_refused", params={**PARAMS, "url": "", "token": ""}, schedule=None):
    MarkedMeanwhile(task_id="job", conn_id="ray_test", entrypoint="{{ params.command }}", deferrable=True)

for name, options in {
    "ray_sensor_deferred": {"deferrable": True},
    "ray_sensor_poke": {"deferrable": False, "poke_interval": 1},
    "ray_sensor_reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 6},
}.items():
    with DAG(name, params={"job_id": "none"}, schedule=None):
        RayJobSensor(task_id="wait", conn_id="ray_test", job_id="{{ params.job_id }}", **options)
