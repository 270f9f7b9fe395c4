"""Values that go between local tasks and tasks on Ray in every direction, and calls of a runner in every trouble."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, task

MIB = 1024 * 1024

ON_RAY: dict[str, Any] = {"conn_id": "ray_test", "num_cpus": 0.5}


@task
def numbers(mib: int) -> Any:
    import numpy as np

    return np.arange(mib * MIB // 8, dtype=np.int64)


@task
def total(value: Any) -> int:
    """The sum of arrays, however they are nested."""
    if isinstance(value, dict):
        return sum(total.function(each) for each in value.values())
    if isinstance(value, list | tuple):
        return sum(total.function(each) for each in value)
    return int(value.sum())


@task
def collected(values: Any) -> list[int]:
    return [int(each.sum()) for each in values]


def doubled(value: Any) -> Any:
    return value * 2


def added(pair: dict[str, Any], more: list[Any]) -> Any:
    return pair["one"] + pair["other"] + sum(more)


def pieces(mib: int, count: int) -> list[Any]:
    import numpy as np

    return [np.full(mib * MIB // 8, number, dtype=np.int64) for number in range(count)]


def named(mib: int) -> dict[str, Any]:
    import numpy as np

    return {"large": np.ones(mib * MIB // 8, dtype=np.int64), "small": 7}


for mode in ("warm", "cold"):
    with DAG(f"plane_round_{mode}", schedule=None):
        local = numbers(2)
        once = task.ray(task_id="once", mode=mode, **ON_RAY)(doubled)(local)
        twice = task.ray(task_id="twice", mode=mode, **ON_RAY)(doubled)(once)
        mixed = task.ray(task_id="mixed", mode=mode, **ON_RAY)(added)({"one": local, "other": once}, [twice, 1])
        total.override(task_id="total")([once, {"more": (twice, local)}, mixed])

    with DAG(f"plane_mapped_{mode}", schedule=None):
        parts = task.ray(task_id="parts", mode=mode, **ON_RAY)(pieces)(1, 3)
        total.override(task_id="each_here").expand(value=parts)
        each = task.ray(task_id="each", mode=mode, **ON_RAY)(doubled).expand(value=parts)
        collected.override(task_id="all_here")(each)
        locals_ = numbers.expand(mib=[1, 2])
        task.ray(task_id="of_local", mode=mode, **ON_RAY)(doubled).expand(value=locals_)

        @task.ray(task_id="all_there", mode=mode, **ON_RAY)
        def sums(values: Any) -> list[int]:
            return [int(each.sum()) for each in values]

        sums(each)

    with DAG(f"plane_named_{mode}", schedule=None):
        both = task.ray(task_id="both", mode=mode, multiple_outputs=True, **ON_RAY)(named)(2)
        total.override(task_id="here")(both["large"])

        @task.ray(task_id="there", mode=mode, **ON_RAY)
        def product(large: Any, small: int) -> int:
            return int(large.sum()) * small

        product(both["large"], both["small"])

        @task
        def pulled(ti: Any = None, told: str = "") -> list[Any]:
            whole = ti.xcom_pull(task_ids="both")
            return [int(whole["large"].sum()), whole["small"], told]

        both >> pulled(told="{{ ti.xcom_pull('both')['large'].sum() }}")

with DAG("plane_over_modes", schedule=None):
    first = task.ray(task_id="first", mode="cold", **ON_RAY)(named)(2)
    second = task.ray(task_id="second", mode="warm", **ON_RAY)(lambda whole: whole["large"] + whole["small"])(first)
    third = task.ray(task_id="third", mode="cold", **ON_RAY)(doubled)(second)
    total(third)

with DAG("plane_over_clusters", schedule=None):
    here = task.ray(task_id="one", mode="warm", **ON_RAY)(named)(2)
    there = task.ray(task_id="other", mode="warm", **{**ON_RAY, "conn_id": "ray_other"})(
        lambda whole: whole["large"] * whole["small"]
    )(here)
    total(there)


def counted(lines: int, path: str, fails: bool) -> int:
    """Says line after line, and notes each start."""
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{os.getpid()}\n")
    for number in range(1, lines + 1):
        print(f"line {number}", flush=True)
        time.sleep(0.5)
    if fails:
        raise ValueError("as wished")
    return lines


PARAMS = {"lines": 20, "path": Param("/dev/null", type="string"), "timeout": 600, "fails": False}

for name, options in {"warm_deferred": {"deferrable": True}, "warm_in_worker": {"deferrable": False}}.items():
    with DAG(name, schedule=None, params=PARAMS, render_template_as_native_obj=True):
        task.ray(
            task_id="job",
            mode="warm",
            retries=1,
            retry_delay=timedelta(0),
            job_timeout_seconds="{{ params.timeout }}",
            **ON_RAY,
            **options,
        )(counted)("{{ params.lines }}", "{{ params.path }}", "{{ params.fails }}")
