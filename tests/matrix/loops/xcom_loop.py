"""A DAG with a loop (Airflow 3.4): every iteration has values of its own under the same names."""

from __future__ import annotations

from typing import Any

import numpy as np
from airflow.sdk import dag, task, task_group

ITERATIONS = 3


@dag(schedule=None, catchup=False)
def xcom_loop() -> None:
    @task_group
    def grow() -> None:
        @task
        def add(*, loop: Any) -> Any:
            return (np.zeros(20_000) if loop.index == 0 else loop.previous) + 1

        @task
        def keep(array: Any, *, loop: Any) -> Any:
            assert (array == loop.index + 1).all()
            return array

        keep(add())

    @task
    def look(**context: Any) -> None:
        arrays = context["ti"].xcom_pull(task_ids="grow.keep")
        assert [int(array[0]) for array in arrays] == [1, 2, 3]

    grow.loop(max_iterations=ITERATIONS) >> look()


flow = xcom_loop()
