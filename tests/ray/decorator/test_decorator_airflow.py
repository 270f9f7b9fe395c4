"""
Goal: functions on Ray work in an Airflow as tasks do: arguments, values, logs and errors.

Method: a real Airflow and a real Ray; the DAGs' own tasks check what they receive.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_home import AirflowHome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_home import RayHome


@pytest.fixture(scope="module")
def airflow(ray_home: RayHome, airflow_env: dict[str, str]) -> Iterator[AirflowHome]:
    env = {
        **airflow_env,
        "AIRFLOW_CONN_RAY_TEST": json.dumps({"conn_type": "ray", "extra": {"address": ray_home.address}}),
    }
    with AirflowHome(Path(__file__).with_name("dags"), env=env) as home:
        yield home


def lines(airflow: AirflowHome, dag_id: str, run: str, task: str) -> list[str]:
    return [str(event.get("event")) for event in airflow.log(dag_id, run, task)]


def job(ray_home: RayHome, run: str, task: str) -> dict[str, Any]:
    (found,) = [
        each
        for each in ray_home.jobs()
        if (each["metadata"].get("run_id"), each["metadata"].get("task_id")) == (run, task)
    ]
    return found


def test_functions_between_ordinary_tasks(airflow: AirflowHome, ray_home: RayHome) -> None:
    run = airflow.run("ray_functions")
    assert airflow.xcom("ray_functions", run, "check") == "checked"
    assert "summing 50000 rows" in lines(airflow, "ray_functions", run, "summed")
    assert airflow.xcom("ray_functions", run, "summed", "rows") == 50_000
    summed = job(ray_home, run, "summed")
    assert summed["runtime_env"]["py_modules"][0].startswith("gcs://_ray_pkg_")
    # What the function was called with is nowhere but in the package.
    assert "ds" not in json.dumps(summed["metadata"])
    assert "50000" not in summed["entrypoint"]


def test_a_value_comes_after_the_triggerer_has_waited(airflow: AirflowHome) -> None:
    run = airflow.run("ray_functions_deferred")
    assert airflow.xcom("ray_functions_deferred", run, "check") == "checked"
    said = [line for line in lines(airflow, "ray_functions_deferred", run, "slow") if line.startswith("line ")]
    assert said == [f"line {number}" for number in range(16)]


def test_an_error_is_in_the_log_as_at_home(airflow: AirflowHome) -> None:
    dag_id = "ray_functions_fail"
    run = airflow.trigger(dag_id)
    airflow.wait(dag_id, run, expect="failed")

    log = airflow.log(dag_id, run, "fails")
    said = [str(event.get("event")) for event in log]
    assert "before" in said
    assert "    indented -1" in said
    assert not [line for line in said if "airfreight |" in line or '"error"' in line]
    (shown,) = [event["error_detail"][0] for event in log if event.get("error_detail")]
    assert (shown["exc_type"], shown["exc_value"]) == ("ValueError", "row -1 is negative")
    frames = [(Path(frame["filename"]).name, frame["name"]) for frame in shown["frames"]]
    assert frames[-2:] == [("ray_functions.py", "fails"), ("ray_functions.py", "check_row")]

    states = {each["task_id"]: each for each in airflow.task_instances(dag_id, run)}
    assert states["skipped"]["state"] == "skipped"
    assert states["never"]["state"] == "failed"
    # What can't succeed isn't tried again.
    assert states["never"]["try_number"] == 1
    text = json.dumps(airflow.log(dag_id, run, "never"))
    assert "the function needs the module missing_library" in text
