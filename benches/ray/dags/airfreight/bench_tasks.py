"""The smallest tasks: for their memory, and for the time of a cold function."""

from __future__ import annotations

import time
from typing import Any

from airflow.sdk import DAG, task

from airfreight.operators.ray import SubmitRayJob

started: list[float] = []


def note_start(context: Any) -> None:
    started.append(time.perf_counter())


def note_end(context: Any, result: Any) -> None:
    context["ti"].xcom_push(key="took", value=time.perf_counter() - started.pop())
    context["ti"].xcom_push(key="value", value=result)


with DAG("bench_memory", schedule=None, catchup=False, max_active_tasks=1):

    @task.ray(conn_id="ray_bench", mode="cold", deferrable=False)
    def decorated() -> int:
        import time

        time.sleep(6)
        return 42

    SubmitRayJob(task_id="submit", conn_id="ray_bench", entrypoint="sleep 6", deferrable=False)
    decorated()

with DAG("bench_cold", schedule=None, catchup=False):

    @task.ray(conn_id="ray_bench", mode="cold", deferrable=False, pre_execute=note_start, post_execute=note_end)
    def cold() -> int:
        return 42

    cold()
