"""The demo: its DAG on a real Airflow, what it reports, and that an interrupted one leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from demo import __main__ as demo
from demo import journal, tables
from rich.console import Console

from test_airflow_home import alive

if TYPE_CHECKING:
    from airflow_home import AirflowHome

REPOSITORY = Path(__file__).parents[1]
TASKS = ["clean_and_join", "evaluate", "extract", "features", "plot", "train"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "flights.png"


@pytest.fixture(scope="module")
def run_id(airflow: AirflowHome, picture: Path) -> str:
    return airflow.run("flights", {"picture": str(picture)})


@pytest.fixture(scope="module")
def measured(airflow: AirflowHome, run_id: str, store_folder: Path) -> dict[str, Any]:
    return demo.measure(airflow, "flights", run_id, store_folder / "store", costs=True)


def test_flights_runs_and_beats_the_obvious_guess(airflow: AirflowHome, run_id: str) -> None:
    states = {each["task_id"]: each["state"] for each in airflow.task_instances("flights", run_id)}
    assert states == dict.fromkeys(TASKS, "success")
    scores = airflow.xcom("flights", run_id, "evaluate", "scores")
    guess, model = scores["as late as it left"], scores["XGBoost"]
    assert model["mean_absolute_error_minutes"] < 0.9 * guess["mean_absolute_error_minutes"]
    assert model["r2"] > guess["r2"] > 0.8


def test_flights_draws_a_picture(run_id: str, picture: Path) -> None:
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.stat().st_size > 100_000


def test_frames_arrays_and_the_model_went_through_shared_memory(measured: dict[str, Any]) -> None:
    in_store = {(each["task"], each["key"]): each for each in measured["values"] if each["in_store"]}
    assert {key: each["description"].split()[0] for key, each in in_store.items()} == {
        ("extract", "flights"): "DataFrame",
        ("extract", "weather"): "DataFrame",
        ("extract", "planes"): "DataFrame",
        ("clean_and_join", "return_value"): "DataFrame",
        ("features", "training"): "DataFrame",
        ("features", "test"): "DataFrame",
        ("train", "return_value"): "XGBRegressor",
        ("evaluate", "predicted"): "ndarray",
    }
    assert in_store["extract", "flights"]["description"] == "DataFrame 336,776 x 19"
    for each in in_store.values():
        assert each["mapped_bytes"] > 0.95 * each["nbytes"]
    assert [each["key"] for each in measured["values"] if not each["in_store"]] == ["scores"]


def test_airflows_own_way_is_measured_or_refused(measured: dict[str, Any]) -> None:
    costs = {(each["task"], each["key"]): each["cost"] for each in measured["values"]}
    assert costs["train", "return_value"]["refused"].startswith("TypeError: ")
    assert costs["extract", "flights"]["row_bytes"] > 5_000_000
    assert costs["extract", "flights"]["api_write"] > 0
    assert costs["evaluate", "scores"]["same"]


def test_the_tables_name_each_parameter_with_its_times(
    airflow: AirflowHome, run_id: str, measured: dict[str, Any]
) -> None:
    times = journal.collect(airflow, "flights", run_id)
    assert ("clean_and_join", "return_value") in times.stored
    assert ("features", "clean_and_join", "return_value") in times.read
    console = Console(width=160)
    with console.capture() as shown:
        console.print(tables.received("flights", measured["parameters"], measured["values"], times))
        console.print(tables.costs(measured["values"], times))
    text = shown.get()
    assert "joined     DataFrame 327,346 x 30" in text
    assert "inline in its row" in text
    assert "refused" in text


def test_an_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=REPOSITORY,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "api-server" in line:
                break
        started = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "Everything that was started has been stopped" in rest
    assert len(started) >= 5
    assert alive(started) == []
    assert list(tmp_path.iterdir()) == []


def descendants(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found
