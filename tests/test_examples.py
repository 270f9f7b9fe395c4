"""The small examples, each run by a real Airflow; ``flights`` is in ``test_demo.py``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_home import AirflowHome

DAGS = Path(__file__).parents[1] / "examples" / "dags"

Runs = dict[str, str]


@pytest.fixture(scope="module")
def runs(airflow: AirflowHome) -> Runs:
    """All runs, started together."""
    return {
        "shards": airflow.trigger("shards"),
        "outputs": airflow.trigger("outputs"),
        "repaired": airflow.trigger("quality", {"missing": 0.3}),
        "kept": airflow.trigger("quality", {"missing": 0.01}),
    }


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_examples_know_nothing_of_the_backend(path: Path) -> None:
    assert "airfreight" not in path.read_text()


def test_each_mapped_task_reads_its_own_frame_only(airflow: AirflowHome, runs: Runs) -> None:
    run_id = runs["shards"]
    airflow.wait("shards", run_id)
    row = airflow.xcom("shards", run_id, "split")
    assert row["type"] == "list"
    for index in range(4):
        events = [entry["event"] for entry in airflow.log("shards", run_id, "hourly", index)]
        reads = [event for event in events if event.startswith("read ")]
        assert [event.split(":")[0] for event in reads] == [f"read return_value[{index}] of split"]
    compared = airflow.xcom("shards", run_id, "compare")
    assert (compared["sensors"], compared["hours"]) == (4, 139)
    # The mean of some 900 temperatures an hour and sensor, with a deviation of 3.
    assert compared["spread"] == pytest.approx(3 / 900**0.5, rel=0.1)


def test_a_task_gets_one_of_multiple_outputs_without_the_others(airflow: AirflowHome, runs: Runs) -> None:
    run_id = runs["outputs"]
    airflow.wait("outputs", run_id)
    assert airflow.xcom("outputs", run_id, "rank") == 20
    assert airflow.xcom("outputs", run_id, "largest_error") < 1e-9
    assert airflow.xcom("outputs", run_id, "decompose", "matrix")["type"] == "numpy.ndarray"
    assert airflow.xcom_keys("outputs", run_id, "decompose") == [
        "left",
        "matrix",
        "return_value",
        "right",
        "shape",
        "values",
    ]
    whole = airflow.xcom("outputs", run_id, "decompose")
    # The dict of all is made of the parts that were written before.
    assert set(whole["parts"]) == {"matrix", "left", "right", "values"} & set(whole["parts"])
    assert {"matrix", "left", "right"} <= set(whole["parts"])


@pytest.mark.parametrize(
    ("run", "skipped", "repaired"), [("repaired", "keep", True), ("kept", "repair", False)], ids=["repaired", "kept"]
)
def test_a_branch_follows_what_it_read_of_a_frame(
    airflow: AirflowHome, runs: Runs, run: str, skipped: str, repaired: bool
) -> None:
    run_id = runs[run]
    airflow.wait("quality", run_id)
    states = {each["task_id"]: each["state"] for each in airflow.task_instances("quality", run_id)}
    assert [task for task, state in states.items() if state == "skipped"] == [skipped]
    summary: dict[str, Any] = airflow.xcom("quality", run_id, "summarise")
    assert summary["rows"] == 100_000
    assert summary["repaired"] is repaired
    assert (summary["missing"] == 0) is repaired
