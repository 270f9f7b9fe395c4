"""Functions on Ray between ordinary tasks, called in every way; the ordinary tasks check what they get."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException
from near_functions import add

from airfreight.decorators import ray, ray_task

LIMIT = 3


@dataclass
class Row:
    name: str
    n: int


def config(context, task_id):
    return {"conn_id": "ray_test", "num_cpus": 1, "runtime_env": {"env_vars": {"OF_TASK": task_id}}}


@dag(schedule=None, params={"n": 5}, default_args={"retries": 0})
def ray_functions():
    offset = 10

    @task
    def table():
        return pd.DataFrame({"n": np.arange(50_000), "name": ["x" * 10] * 50_000})

    @task.ray(conn_id="ray_test", num_cpus=0, resources={"node:__internal_head__": 0.001})
    def summed(frame: pd.DataFrame, at: str, *, more=()) -> dict[str, int]:
        print(f"summing {len(frame)} rows")
        return {"rows": len(frame), "sum": int(frame.n.sum()) + offset + sum(more)}

    @ray.task(
        config={"conn_id": "ray_test", "num_cpus": 0, "runtime_env": {"env_vars": {"RUN": "{{ run_id }}"}}},
    )
    def no_arguments():
        import os

        return os.environ["RUN"], os.environ["AIRFLOW_CTX_TASK_ID"]

    @ray.task(config=config)
    def configured(params, run_id=None):
        import os

        return params, run_id, os.environ["OF_TASK"]

    @ray_task(ray_conn_id="ray_test", num_cpus=0)
    def mapped(row: Row, factor):
        return Row(row.name, add(row.n * factor, LIMIT))

    @ray_task(conn_id="ray_test", num_cpus=0)
    def large(n):
        return np.arange(n, dtype="float64")

    @task.ray(conn_id="ray_test", config={"entrypoint": "echo instead", "num_cpus": 0})
    def script():
        raise AssertionError

    @task
    def check(total, rows, nothing, conf, results, array, job_id, run_id=None):
        assert total == 50_000 * 49_999 // 2 + 10 + 3, total
        assert rows == 50_000, rows
        assert nothing == (run_id, "no_arguments"), nothing
        assert conf == ({"n": 5}, run_id, "configured"), conf
        assert list(results) == [Row("a", 5), Row("b", 7)], list(results)
        assert array.sum() == 999_999 * 1_000_000 / 2
        assert job_id.startswith("af-ray_functions.script-"), job_id
        return "checked"

    sums = summed(table(), "{{ run_id }}", more=[1, 2])
    rows = mapped.partial(factor=2).expand(row=[Row("a", 1), Row("b", 2)])
    check(
        sums["sum"],
        sums["rows"],
        no_arguments(),
        configured.override(retries=1)(),
        rows,
        large(1_000_000),
        script(),
    )


@dag(schedule=None, default_args={"retries": 0})
def ray_functions_deferred():
    @task.ray(conn_id="ray_test", num_cpus=0, deferrable=True, job_timeout_seconds=0)
    def slow(n) -> dict[str, int]:
        import time

        for number in range(n):
            print("line", number)
            time.sleep(0.5)
        return {"one": 1, "n": n}

    @task
    def check(one, n):
        assert (one, n) == (1, 16)
        return "checked"

    found = slow(16)
    check(found["one"], found["n"])


@dag(schedule=None, default_args={"retries": 0})
def ray_functions_fail():
    @task.ray(conn_id="ray_test", num_cpus=0)
    def fails(rows):
        print("before")
        for row in rows:
            print("    indented", row)
            check_row(row)
        return rows

    @task.ray(conn_id="ray_test", num_cpus=0)
    def skipped():
        raise AirflowSkipException("nothing to do")

    @task.ray(conn_id="ray_test", num_cpus=0, retries=2, retry_delay=timedelta(0))
    def never():
        return missing_library.answer

    fails([1, -1]), skipped(), never()


def check_row(row):
    if row < 0:
        raise ValueError(f"row {row} is negative")


with suppress(ImportError):
    import missing_library


ray_functions()
ray_functions_deferred()
ray_functions_fail()
