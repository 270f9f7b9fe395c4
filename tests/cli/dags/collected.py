"""A DAG whose objects `airfreight store gc` is asked about: a plain task and a mapped one."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def collected() -> None:
    @task
    def plain() -> int:
        return 1

    @task
    def mapped(number: int) -> int:
        return number

    plain()
    mapped.expand(number=[1, 2, 3])


collected()
