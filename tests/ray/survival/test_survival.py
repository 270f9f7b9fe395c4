"""
Goal: whatever dies in the cluster between two tasks or during one, a run goes on, or says what to do.
Method: a real Airflow and a real Ray; runs wait at a gate, and a test kills real processes meanwhile.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from survival_home import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_home import AirflowHome
    from ray_home import RayHome

pytestmark = pytest.mark.timeout(900)

TOTAL = 2 * sum(range(1_000_000))


def begun(airflow: AirflowHome, dag_id: str, gate: Path) -> tuple[str, dict[str, Any]]:
    """A run that has made its value and waits at the gate, and the value's row."""
    run_id = airflow.trigger(dag_id, {"gate": str(gate)})
    airflow.wait_for_state(dag_id, run_id, "made", "success")
    return run_id, airflow.xcom(dag_id, run_id, "made")


def text(airflow: AirflowHome, dag_id: str, run_id: str, task_id: str, try_number: int | None = None) -> str:
    """A task's log, with the texts of its errors."""
    lines = []
    for entry in airflow.log(dag_id, run_id, task_id, try_number=try_number):
        lines += [str(entry["event"]), *(str(error.get("exc_value")) for error in entry.get("error_detail") or ())]
    return "\n".join(lines)


def states(airflow: AirflowHome, dag_id: str, run_id: str) -> dict[str, str]:
    return {each["task_id"]: each["state"] for each in airflow.task_instances(dag_id, run_id)}


@pytest.mark.parametrize("dag_id", ["gated", "gated_cold"])
def test_a_value_outlives_the_runner_and_its_job(
    dag_id: str, frail_airflow: AirflowHome, frail_ray: RayHome, gate: Path, kill_actor: Callable[[str], None]
) -> None:
    run_id, row = begun(frail_airflow, dag_id, gate)
    (runner,) = [job for job in frail_ray.jobs() if job["status"] == "RUNNING"]
    kill_actor(runner["submission_id"])
    frail_ray.request("POST", f"/api/jobs/{runner['submission_id']}/stop")
    frail_ray.wait_for_job(runner["submission_id"], ("STOPPED", "FAILED", "SUCCEEDED"))
    gate.touch()
    frail_airflow.wait(dag_id, run_id)
    assert frail_airflow.xcom(dag_id, run_id, "total") == TOTAL
    after = frail_airflow.xcom(dag_id, run_id, "twice")
    if dag_id == "gated":
        assert after["ray"]["generation"] == row["ray"]["generation"]


def test_a_runner_that_is_killed_starts_again_by_itself(
    frail_airflow: AirflowHome, frail_ray: RayHome, gate: Path, kill_actor: Callable[[str], None]
) -> None:
    run_id, _ = begun(frail_airflow, "gated", gate)
    (runner,) = [job for job in frail_ray.jobs() if job["status"] == "RUNNING"]
    kill_actor(runner["submission_id"])
    gate.touch()
    frail_airflow.wait("gated", run_id)
    assert frail_airflow.xcom("gated", run_id, "total") == TOTAL
    assert frail_ray.job(runner["submission_id"])["status"] == "RUNNING"  # type: ignore[index]


def test_the_loss_of_an_owner_names_the_task_to_clear(
    frail_airflow: AirflowHome, gate: Path, kill_actor: Callable[[str], None]
) -> None:
    run_id, row = begun(frail_airflow, "gated", gate)
    kill_actor(row["ray"]["owner"])
    gate.touch()
    frail_airflow.wait("gated", run_id, expect="failed")
    assert states(frail_airflow, "gated", run_id) == {
        "made": "success",
        "gate": "success",
        "twice": "failed",
        "total": "upstream_failed",
    }
    said = text(frail_airflow, "gated", run_id, "twice")
    assert "the value of task gated.made" in said
    assert "clear task" in said
    frail_airflow.clear("gated", run_id, ["made"], include_downstream=True)
    frail_airflow.wait("gated", run_id)
    assert frail_airflow.xcom("gated", run_id, "total") == TOTAL
    assert frail_airflow.xcom("gated", run_id, "made")["ray"]["generation"] != row["ray"]["generation"]


def test_a_killed_worker_harms_its_own_task_alone(frail_airflow: AirflowHome, gate: Path) -> None:
    run_id = frail_airflow.trigger("interrupted", {"gate": str(gate)})
    pid = until(lambda: _pid(gate), "the function to tell its process", 120)
    frail_airflow.wait_for_state("interrupted", run_id, "beside", "running")
    os.kill(pid, signal.SIGKILL)
    frail_airflow.wait_for_state("interrupted", run_id, "patient", "failed")
    assert "WORKER_CRASHED" in text(frail_airflow, "interrupted", run_id, "patient")
    gate.touch()
    frail_airflow.wait("interrupted", run_id, expect="failed")
    assert states(frail_airflow, "interrupted", run_id) == {"patient": "failed", "beside": "success"}


def test_a_retry_runs_on_the_cluster_that_came_after(
    frail_airflow: AirflowHome, frail_ray: RayHome, gate: Path
) -> None:
    run_id = frail_airflow.trigger("interrupted_twice", {"gate": str(gate)})
    first = until(lambda: _pid(gate), "the function to tell its process", 120)
    frail_ray.restart()
    until(lambda: _pid(gate) not in (None, first), "the function to run again", 180)
    gate.touch()
    frail_airflow.wait("interrupted_twice", run_id)
    assert frail_airflow.xcom("interrupted_twice", run_id, "patient") == "done"
    assert "another cluster answers" in text(frail_airflow, "interrupted_twice", run_id, "patient", 1)


@pytest.mark.parametrize("dag_id", ["gated", "gated_cold"])
def test_a_replaced_cluster_names_the_task_to_clear(
    dag_id: str, frail_airflow: AirflowHome, frail_ray: RayHome, gate: Path
) -> None:
    run_id, row = begun(frail_airflow, dag_id, gate)
    frail_ray.restart()
    gate.touch()
    frail_airflow.wait(dag_id, run_id, expect="failed")
    said = text(frail_airflow, dag_id, run_id, "twice")
    assert (
        f"another cluster answers there now: {frail_ray_session(frail_ray)} in place of {row['ray']['session']}" in said
    )
    assert "clear task" in said
    frail_airflow.clear(dag_id, run_id, ["made"], include_downstream=True)
    frail_airflow.wait(dag_id, run_id)
    assert frail_airflow.xcom(dag_id, run_id, "total") == TOTAL


def test_a_checkpoint_outlives_the_cluster(frail_airflow: AirflowHome, frail_ray: RayHome, gate: Path) -> None:
    run_id, row = begun(frail_airflow, "gated_checkpointed", gate)
    assert row["bucket"]["nbytes"] > row["nbytes"]
    frail_ray.restart()
    gate.touch()
    frail_airflow.wait("gated_checkpointed", run_id)
    assert frail_airflow.xcom("gated_checkpointed", run_id, "total") == TOTAL
    assert "checkpoint" in text(frail_airflow, "gated_checkpointed", run_id, "twice")
    # Nothing was made again.
    assert {each["try_number"] for each in frail_airflow.task_instances("gated_checkpointed", run_id)} == {1}


def frail_ray_session(ray: RayHome) -> str:
    return str(ray.request("GET", "/api/version")["session_name"])


def _pid(gate: Path) -> int | None:
    try:
        return int(gate.with_suffix(".pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
