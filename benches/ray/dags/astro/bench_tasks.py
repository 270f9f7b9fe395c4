"""The smallest task: for its memory."""

from __future__ import annotations

from airflow.sdk import DAG

from ray_provider.operators import SubmitRayJob

with DAG("bench_memory", schedule=None, catchup=False, max_active_tasks=1):
    SubmitRayJob(task_id="submit", conn_id="ray_bench", entrypoint="sleep 6", runtime_env={}, poll_interval=1)
