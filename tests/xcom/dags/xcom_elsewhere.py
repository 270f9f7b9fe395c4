"""One DAG makes values, the other pulls them: across DAGs, from runs before, and from another backend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from airflow.sdk import dag, task

MOMENT = datetime(2024, 2, 29, 12, tzinfo=UTC)


@dag(schedule=None, catchup=False)
def xcom_source() -> None:
    @task
    def large() -> Any:
        return list(range(50_000))

    @task
    def small() -> Any:
        return {"a": [1, 2], "b": "text"}

    @task
    def moment() -> Any:
        return MOMENT

    large()
    small()
    moment()


@dag(schedule=None, catchup=False)
def xcom_reader() -> None:
    @task
    def read(**context: Any) -> str:
        run_id = context["dag_run"].conf["run_id"]
        ti = context["ti"]

        def pull(task_id: str) -> Any:
            return ti.xcom_pull(task_ids=task_id, dag_id="xcom_source", run_id=run_id)

        assert pull("large") == list(range(50_000))
        assert pull("small") == {"a": [1, 2], "b": "text"}
        assert pull("moment") == MOMENT
        return "read"

    read()


@dag(schedule=None, catchup=False)
def xcom_prior() -> None:
    """Sums up what the run before it left."""

    @task
    def total(**context: Any) -> Any:
        before = context["ti"].xcom_pull(task_ids="total", include_prior_dates=True, map_indexes=None)
        return np.ones(10_000) + (0 if before is None else before)

    @task
    def look(array: Any) -> int:
        return int(array[0])

    look(total())


source, reader, prior = xcom_source(), xcom_reader(), xcom_prior()
