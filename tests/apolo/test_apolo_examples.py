"""Goal: the examples for Apolo do what they say. Method: a real Airflow, the SDK, and a double of the platform."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome
from apolo_home import VENV, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples" / "apolo"


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with Platform.start() as platform:
        yield platform


@pytest.fixture(scope="module")
def airflow(
    platform: Platform, airflow_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowHome]:
    """An Airflow that finds the SDK behind its own packages."""
    import os

    folder = tmp_path_factory.mktemp("path")
    (packages,) = VENV.glob("lib/python*/site-packages")
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(packages)!r})\n")
    env = {
        **airflow_env,
        "AIRFLOW_CONN_APOLO_DEFAULT": platform.connection(),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)])),
    }
    with AirflowHome(EXAMPLES, env=env) as home:
        yield home


def test_a_job_is_started_and_awaited(airflow: AirflowHome, platform: Platform) -> None:
    run = airflow.trigger("apolo_detached")
    airflow.wait_for_state("apolo_detached", run, "finish", "deferred")
    job = airflow.xcom("apolo_detached", run, "start")["id"]
    platform.end(job, status="succeeded", exit_code=0)
    airflow.wait("apolo_detached", run)


@pytest.mark.parametrize(("data", "prepared"), [("storage:there.csv", "skipped"), ("storage:gone.csv", "success")])
def test_a_branch_looks_at_the_storage(data: str, prepared: str, airflow: AirflowHome, platform: Platform) -> None:
    put = urllib.request.Request(
        f"{platform.url}/sto/org/proj/there.csv?op=CREATE",
        b"a,b",
        {"Authorization": f"Bearer {platform.token}"},
        method="PUT",
    )
    urllib.request.urlopen(put, timeout=60).close()
    run = airflow.run("apolo_train", {"data": data})
    states = {each["task_id"]: each["state"] for each in airflow.task_instances("apolo_train", run)}
    assert states == {"look": "success", "prepare": prepared, "train": "success"}
    said = [entry["event"] for entry in airflow.log("apolo_train", run, "train")]
    assert [line for line in said if line.startswith("epoch ")] == ["epoch 1", "epoch 2", "epoch 3"]
