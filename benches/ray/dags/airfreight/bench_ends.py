"""Jobs that end at different times, waited for in the triggerer and in the worker."""

from __future__ import annotations

from airflow.sdk import DAG

from airfreight.operators.ray import SubmitRayJob

with DAG("bench_ends", schedule=None, catchup=False):
    for name in ("deferred", "worker"):
        SubmitRayJob(
            task_id=name,
            conn_id="ray_bench",
            # The comment tells the bench whose job it is.
            entrypoint=f"sleep {{{{ dag_run.conf['{name}'] }}}} # {{{{ run_id }}}} {name}",
            deferrable=name == "deferred",
        )
