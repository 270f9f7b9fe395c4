"""Tasks that run more than once: retries, kills, branches, clears."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

import numpy as np
from airflow.sdk import dag, task

AT_ONCE = {"retries": 1, "retry_delay": timedelta(0)}


@dag(schedule=None, catchup=False)
def xcom_again() -> None:
    @task(**AT_ONCE)
    def retried(**context: Any) -> Any:
        number = context["ti"].try_number
        context["ti"].xcom_push("part", np.full(30_000, number))
        if number == 1:
            raise RuntimeError("the first try fails after it has pushed")
        return np.full(30_000, 10 * number)

    @task
    def received(array: Any, **context: Any) -> int:
        part = context["ti"].xcom_pull(task_ids="retried", key="part")
        assert (array == 10 * part).all()
        return int(part[0])

    received(retried())


@dag(schedule=None, catchup=False)
def xcom_killed() -> None:
    @task(**AT_ONCE)
    def killed(**context: Any) -> Any:
        context["ti"].xcom_push("part", np.full(30_000, context["ti"].try_number))
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full(40_000, 7)

    @task
    def received(array: Any, **context: Any) -> None:
        assert (array == 7).all()
        assert (context["ti"].xcom_pull(task_ids="killed", key="part") == 2).all()

    received(killed())


@dag(schedule=None, catchup=False)
def xcom_branch() -> None:
    @task.branch
    def choose() -> str:
        return "chosen"

    @task
    def chosen() -> Any:
        return list(range(10_000))

    @task
    def skipped() -> None:
        raise AssertionError("this branch is skipped, also when it is cleared")

    choose() >> [chosen(), skipped()]


@dag(schedule=None, catchup=False)
def xcom_pulls() -> None:
    """Pulls whatever is in the row that a test has put there."""

    @task
    def target() -> Any:
        return list(range(10_000))

    @task
    def pull(**context: Any) -> Any:
        return repr(context["ti"].xcom_pull(task_ids="target", key="given"))

    target() >> pull()


@dag(schedule=None, catchup=False)
def xcom_refused() -> None:
    @task
    def lock() -> Any:
        import threading

        return {"rows": [1, {"lock": threading.Lock()}]}

    lock()


again, killed, branch, pulls, refused = xcom_again(), xcom_killed(), xcom_branch(), xcom_pulls(), xcom_refused()
