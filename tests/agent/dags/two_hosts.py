"""A value that is made on one host and needed on another; queues are named after hosts."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
from airflow.sdk import dag, task


@dag(schedule=None)
def two_hosts() -> None:
    @task(queue="ant")
    def make() -> Any:
        return np.arange(2_000_000, dtype=np.float64)

    @task(queue="bee")
    def use(values: Any) -> dict[str, Any]:
        return {"sum": float(values.sum()), "host": socket.gethostname()}

    use(make())


two_hosts()
