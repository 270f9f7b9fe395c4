"""Jobs that end at different times; astro's operator always waits in the triggerer."""

from __future__ import annotations

from airflow.sdk import DAG

from ray_provider.operators import SubmitRayJob

with DAG("bench_ends", schedule=None, catchup=False):
    SubmitRayJob(
        task_id="poll_1_s",
        conn_id="ray_bench",
        entrypoint="sleep {{ dag_run.conf['poll_1_s'] }} # {{ run_id }} poll_1_s",
        runtime_env={},
        poll_interval=1,
    )

with DAG("bench_ends_defaults", schedule=None, catchup=False):
    SubmitRayJob(
        task_id="defaults",
        conn_id="ray_bench",
        entrypoint="sleep {{ dag_run.conf['defaults'] }} # {{ run_id }} defaults",
        runtime_env={},
    )
