"""
Goal: values go between local tasks and tasks on Ray as if there were no border, and stay where they are.

Method: a real Airflow and two real Ray clusters; what the rows hold and the logs say tells where values have been.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_home import AirflowHome

pytestmark = pytest.mark.slow

#: The sum of the numbers in an array of so many MiB.
SUMS = {mib: sum(range(mib * 1024 * 1024 // 8)) for mib in (1, 2)}
ITEMS = {mib: mib * 1024 * 1024 // 8 for mib in (1, 2)}


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_values_go_there_and_stay_there_and_come_back(mode: str, airflow: AirflowHome) -> None:
    dag_id = f"plane_round_{mode}"
    run = airflow.run(dag_id)

    one = SUMS[2]
    # 2x + x + 4x + 2x… as the DAG has it: once, twice and numbers, mixed.
    once, twice = 2 * one, 4 * one
    mixed = one + once + twice + ITEMS[2]
    assert airflow.xcom(dag_id, run, "total") == once + twice + one + mixed
    for name in ("once", "twice", "mixed"):
        row = airflow.xcom(dag_id, run, name)
        assert row["airfreight"] == 2
        assert row["nbytes"] >= 2 << 20
        assert row["ray"]["conn"] == "ray_test"
        function = "added" if name == "mixed" else "doubled"
        assert f"running {function} {mode}" in log_of(airflow, dag_id, run, name)
    # One owner for the run, whatever job or call has made a value.
    assert len({airflow.xcom(dag_id, run, name)["ray"]["owner"] for name in ("once", "twice", "mixed")}) == 1
    said = log_of(airflow, dag_id, run, "total")
    assert len(re.findall(r"read return_value of \w+ from Ray, connection ray_test", said)) == 3


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_mapped_tasks_take_their_elements_alone(mode: str, airflow: AirflowHome) -> None:
    dag_id = f"plane_mapped_{mode}"
    run = airflow.run(dag_id)

    items = ITEMS[1]
    assert airflow.xcom(dag_id, run, "parts")["elements"] == 3
    for index in range(3):
        assert airflow.xcom(dag_id, run, "each_here", map_index=index) == index * items
        assert airflow.xcom(dag_id, run, "each", map_index=index)["airfreight"] == 2
        assert log_of(airflow, dag_id, run, "each_here", index).count("from Ray") == 1
    assert airflow.xcom(dag_id, run, "all_here") == [0, 2 * items, 4 * items]
    assert airflow.xcom(dag_id, run, "all_there") == [0, 2 * items, 4 * items]
    for index in range(2):
        assert airflow.xcom(dag_id, run, "of_local", map_index=index)["nbytes"] >= (index + 1) << 20


@pytest.mark.parametrize("mode", ["warm", "cold"])
def test_the_outputs_of_a_task_are_values_of_their_own(mode: str, airflow: AirflowHome) -> None:
    dag_id = f"plane_named_{mode}"
    run = airflow.run(dag_id)

    items = ITEMS[2]
    assert airflow.xcom(dag_id, run, "both", "large")["ray"]["key"].endswith("/large")
    assert airflow.xcom(dag_id, run, "both", "small") == 7
    assert airflow.xcom(dag_id, run, "here") == items
    assert airflow.xcom(dag_id, run, "there") == 7 * items
    assert airflow.xcom(dag_id, run, "pulled") == [items, 7, str(items)]


def test_values_go_from_jobs_to_calls_and_back(airflow: AirflowHome) -> None:
    run = airflow.run("plane_over_modes")

    assert airflow.xcom("plane_over_modes", run, "total") == 2 * 8 * ITEMS[2]
    assert "running named cold" in log_of(airflow, "plane_over_modes", run, "first")
    assert "warm, by the cluster's runner" in log_of(airflow, "plane_over_modes", run, "second")


def test_values_go_from_one_cluster_to_another(airflow: AirflowHome) -> None:
    run = airflow.run("plane_over_clusters")

    assert airflow.xcom("plane_over_clusters", run, "total") == 7 * ITEMS[2]
    one = airflow.xcom("plane_over_clusters", run, "one", "large")["ray"]
    other = airflow.xcom("plane_over_clusters", run, "other")["ray"]
    assert (one["conn"], other["conn"]) == ("ray_test", "ray_other")
    assert one["session"] != other["session"]


def log_of(airflow: AirflowHome, dag_id: str, run: str, task_id: str, map_index: int = -1) -> str:
    """The log of a task's last attempt."""
    return "\n".join(str(line["event"]) for line in airflow.log(dag_id, run, task_id, map_index))
