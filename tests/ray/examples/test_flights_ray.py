"""``flights_ray``: the demo's DAG on a cluster, and what the demo tells of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from demo import __main__ as demo
from demo import cluster, journal, tables
from rich.console import Console

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_home import AirflowHome
    from ray_home import RayHome

#: Five jobs on two cores, on a busy machine for minutes.
pytestmark = pytest.mark.timeout(900)

SWEEP = 4


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "flights_ray.png"


@pytest.fixture(scope="module")
def run_id(examples_airflow: AirflowHome, picture: Path) -> str:
    return examples_airflow.run("flights_ray", {"picture": str(picture)})


@pytest.fixture(scope="module")
def jobs(examples_airflow: AirflowHome, ray_home: RayHome, run_id: str) -> list[cluster.Job]:
    return cluster.jobs(ray_home, examples_airflow, "flights_ray", run_id)


def test_the_best_of_the_sweep_beats_the_obvious_guess(
    examples_airflow: AirflowHome, run_id: str, picture: Path
) -> None:
    tried = [examples_airflow.xcom("flights_ray", run_id, "try_out", map_index=index) for index in range(SWEEP)]
    best = examples_airflow.xcom("flights_ray", run_id, "best")
    assert best == min(tried, key=lambda each: each["minutes"])["parameters"]
    scores = examples_airflow.xcom("flights_ray", run_id, "evaluate", "scores")
    guess, model = scores["as late as it left"], scores["XGBoost"]
    assert model["mean_absolute_error_minutes"] < 0.9 * guess["mean_absolute_error_minutes"]
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_each_task_had_one_job_whose_prints_are_in_airflow_s_log(jobs: list[cluster.Job]) -> None:
    assert sorted(each.name for each in jobs) == ["train", *(f"try_out[{index}]" for index in range(SWEEP))]
    assert {each.status for each in jobs} == {"SUCCEEDED"}
    for each in jobs:
        assert " minutes off: " in each.printed


def test_the_tables_show_arguments_values_and_jobs(
    examples_airflow: AirflowHome, run_id: str, store_folder: Path, jobs: list[cluster.Job]
) -> None:
    measured: dict[str, Any] = demo.measure(
        examples_airflow, "flights_ray", run_id, store_folder / "store", costs=False
    )
    times = journal.collect(examples_airflow, "flights_ray", run_id)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(tables.received("flights_ray", measured["parameters"], measured["values"], times))
        console.print(tables.jobs(jobs))
    text = shown.get()
    assert re.search(r"try_out +flights +DataFrame", text)
    assert re.search(rf"best +tried +{SWEEP} of dict", text)
    assert re.search(r"evaluate +model +XGBRegressor", text)
    assert re.search(r"try_out\[3\] +af-flights_ray\.try_out\.3-\S+ +SUCCEEDED", text)
