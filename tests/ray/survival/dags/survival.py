"""Runs that stop in the middle, at a gate, so that a test can do harm to the cluster meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

PARAMS = {"gate": Param("/dev/null", type="string")}
ON_RAY: dict[str, Any] = {"num_cpus": 0.5}


def numbers() -> Any:
    import numpy as np

    print("counting")
    return np.arange(1_000_000, dtype=np.int64)


def doubled(array: Any) -> Any:
    return array * 2


@task
def gate(path: str) -> None:
    """Succeeds when the test says so."""
    while not Path(path).exists():
        time.sleep(0.1)


@task
def total(array: Any) -> int:
    return int(array.sum())


for name, options in {"gated": {}, "gated_cold": {"mode": "cold"}, "gated_checkpointed": {"checkpoint": True}}.items():
    with DAG(name, schedule=None, params=PARAMS):
        made = task.ray(task_id="made", **options, **ON_RAY)(numbers)()
        opened = gate("{{ params.gate }}")
        twice = task.ray(task_id="twice", **options, **ON_RAY)(doubled)(made)
        opened >> twice
        total(twice)


def patient(path: str) -> str:
    """Tells its process, and returns when the test says so."""
    Path(path).with_suffix(".pid").write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.05)
    return "done"


def brief(path: str) -> int:
    """Runs beside it, again and again."""
    while not Path(path).exists():
        time.sleep(0.05)
    return os.getpid()


with DAG("interrupted", schedule=None, params=PARAMS):
    task.ray(task_id="patient", **ON_RAY)(patient)("{{ params.gate }}")
    task.ray(task_id="beside", **ON_RAY)(brief)("{{ params.gate }}")

with DAG("interrupted_twice", schedule=None, params=PARAMS, default_args={"retries": 1, "retry_delay": 0}):
    task.ray(task_id="patient", **ON_RAY)(patient)("{{ params.gate }}")
