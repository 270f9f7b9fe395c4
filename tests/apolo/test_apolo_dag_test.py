"""
Goal: `dag.test()` runs jobs however they are waited for; it has no scheduler, and runs triggers in its own process.

Method: a program such as one writes to try a DAG, in an Airflow without any other process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import database, settings

if TYPE_CHECKING:
    from apolo_home import Platform

DAGS = Path(__file__).with_name("dags") / "apolo_jobs.py"

PROGRAM = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("apolo_jobs", sys.argv[1])
sys.modules["apolo_jobs"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
dag = next(each for each in module.dags if each.dag_id == sys.argv[2])
run = dag.test(run_conf={"command": sys.argv[3]})
print("ended as", getattr(run.state, "value", run.state))
"""


@pytest.mark.parametrize(
    "dag_id", ["apolo_deferred", "apolo_in_worker", "apolo_detached", "neuro_detached", "apolo_pair"]
)
def test_a_dag_is_tried(dag_id: str, platform: Platform, airflow_env: dict[str, str], tmp_path: Path) -> None:
    # Another version of Airflow: AIRFREIGHT_AIRFLOW_VENV=.venvs/airflow-3.2.2 pytest tests/apolo/test_apolo_dag_test.py
    venv = Path(os.environ.get("AIRFREIGHT_AIRFLOW_VENV") or sys.prefix).absolute()
    database.create(venv, tmp_path)
    settings.write_cfg(
        tmp_path / "airflow.cfg",
        settings.airflow_cfg(folder=tmp_path, dags=[DAGS.parent], port=settings.free_port(), parallelism=1),
    )
    connections = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
    before = len(platform.jobs())
    done = subprocess.run(
        [venv / "bin" / "python", "-c", PROGRAM, DAGS, dag_id, "sh -c 'sleep 7; echo line 1'"],
        env=settings.environment(venv, tmp_path, {**airflow_env, **connections}),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert "ended as success" in done.stdout.splitlines(), done.stdout[-5000:]
    (job,) = platform.jobs()[before:]
    assert job["status"] in ("running", "succeeded")
    if dag_id in ("apolo_deferred", "apolo_in_worker"):
        assert "line 1" in done.stdout
