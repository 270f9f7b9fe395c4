"""
Goal: datasets, models and checkpoints pass between tasks on Ray as in the examples, which are those of 2021's provider.
Method: run them on a real Airflow, a real Ray and a real S3 server; the cluster is killed where the example says so.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome
from bucket_home import S3Server
from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).parents[3] / "examples"
#: Modin asks for an older pandas than the one that workers have.
MODIN_VENV = Path(__file__).parents[3] / ".venvs" / "modin"
#: What Ray Data has in memory at once, and a year of flights.
OBJECT_STORE_BYTES = 600 * 1024 * 1024


def log(airflow: AirflowHome, dag_id: str, run_id: str, task_id: str) -> str:
    return "\n".join(json.dumps(entry, ensure_ascii=False) for entry in airflow.log(dag_id, run_id, task_id))


def connected(address: str) -> str:
    return json.dumps({"conn_type": "ray", "extra": {"address": address}})


def test_the_trials_of_a_search_share_what_is_in_the_cluster(examples_airflow: AirflowHome) -> None:
    run_id = examples_airflow.run("tuning", {"trials": 4})
    assert examples_airflow.xcom("tuning", run_id, "judge") >= 0.98
    said = log(examples_airflow, "tuning", run_id, "tune")
    for line in ("4 trials with 10 trees", "2 trials with 20 trees", "1 trials with 40 trees"):
        assert line in said
    assert examples_airflow.xcom("tuning", run_id, "tune")["trees"] == 40


@pytest.fixture(scope="module")
def departures() -> Iterator[Path]:
    """What `blocks` writes and `modin_frames` reads."""
    with tempfile.TemporaryDirectory(prefix="airfreight-test-") as folder:
        yield Path(folder)


def test_datasets_pass_from_task_to_task(airflow_env: dict[str, str], departures: Path) -> None:
    with RayHome.start(num_cpus=2, object_store_bytes=OBJECT_STORE_BYTES) as ray:
        env = airflow_env | {"AIRFLOW_CONN_RAY_DEFAULT": connected(ray.address)}
        with AirflowHome(EXAMPLES / "ray", env=env, parallelism=2) as airflow:
            run_id = airflow.run("blocks", {"folder": str(departures)}, timeout=800)
            report = airflow.xcom("blocks", run_id, "report")
            model, guess = (float(word) for word in report.replace(";", "").split() if word[0].isdigit())
            assert 0 < model < guess < 20, report
            assert "Learning from " in log(airflow, "blocks", run_id, "train")


def test_frames_of_modin_pass_from_task_to_task(airflow_env: dict[str, str], departures: Path) -> None:
    import pandas as pd

    rows = pd.DataFrame({"month": [1, 1, 2, 2], "arr_delay": [10.0, 20.0, 30.0, 51.0]})
    (departures / "months").mkdir(exist_ok=True)
    for old in (departures / "months").iterdir():
        old.unlink()
    for month, part in rows.groupby("month"):
        part.to_parquet(departures / "months" / f"2013-{month:02}.parquet", index=False)
    with RayHome.start(venv=MODIN_VENV, num_cpus=2, object_store_bytes=OBJECT_STORE_BYTES) as ray:
        env = airflow_env | {"AIRFLOW_CONN_RAY_DEFAULT": connected(ray.address)}
        with AirflowHome(EXAMPLES / "ray", env=env, parallelism=2) as airflow:
            run_id = airflow.run("modin_frames", {"folder": str(departures)}, timeout=800)
            assert airflow.xcom("modin_frames", run_id, "worst") == "in month 2 flights were 40.5 minutes late"


def test_a_run_goes_on_from_its_checkpoints_after_its_cluster_was_replaced(
    airflow_env: dict[str, str], tmp_path: Path
) -> None:
    models = tmp_path / "models"
    with S3Server() as s3, RayHome.start() as ray:
        bucket = s3.make_bucket("models")
        login = s3.environment
        aws = {
            "conn_type": "aws",
            "login": login["AWS_ACCESS_KEY_ID"],
            "password": login["AWS_SECRET_ACCESS_KEY"],
            "extra": {"endpoint_url": s3.endpoint, "region_name": login["AWS_REGION"], "bucket_name": "models"},
        }
        env = airflow_env | {
            **login,
            "AIRFLOW__AIRFREIGHT__CHECKPOINT": f"{bucket}/default",
            "AIRFLOW_CONN_S3_CONNECTION_ID": json.dumps(aws),
            "AIRFLOW_CONN_RAY_DEFAULT": connected(ray.address),
        }
        with AirflowHome(EXAMPLES / "ray", env=env, parallelism=2) as airflow:
            run_id = airflow.trigger("resume", {"models": str(models)})
            airflow.wait("resume", run_id, expect="failed", timeout=600)
            assert "No such file or directory" in log(airflow, "resume", run_id, "publish")
            ray.restart()
            # Otherwise what the first attempt has fetched would do.
            shutil.rmtree(airflow_env["AIRFLOW__AIRFREIGHT__STORE_PATH"])
            models.mkdir()
            airflow.clear("resume", run_id, ["publish"])
            airflow.wait("resume", run_id, timeout=600)
            tries = {each["task_id"]: each["try_number"] for each in airflow.task_instances("resume", run_id)}
            assert tries["features"] == tries["train"] == 1, "nothing is computed again"
            assert airflow.xcom("resume", run_id, "publish") > 0.95
            assert (models / "digits.pickle").stat().st_size > 1000
            # The model is small enough to stand in its row.
            assert "reading its checkpoint s3://models" in log(airflow, "resume", run_id, "publish")
