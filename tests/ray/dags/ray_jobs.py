"""One Ray job per DAG, waited for in every way; a run's configuration says what the job does."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airfreight.operators.ray import SubmitRayJob
from airfreight.sensors.ray import RayJobSensor

PARAMS = {"command": "echo hello", "timeout": 600, "on_kill": "stop"}

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

for name, options in {
    "ray_sensor_deferred": {"deferrable": True},
    "ray_sensor_poke": {"deferrable": False, "poke_interval": 1},
    "ray_sensor_reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 6},
}.items():
    with DAG(name, params={"job_id": "none"}, schedule=None):
        RayJobSensor(task_id="wait", conn_id="ray_test", job_id="{{ params.job_id }}", **options)
