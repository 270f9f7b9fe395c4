"""An Airflow that keeps values in two Ray clusters."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome
from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def other_ray(request: pytest.FixtureRequest) -> Iterator[RayHome]:
    """A second cluster."""
    with RayHome.start() as ray:
        yield ray
        ray.keep = bool(request.session.testsfailed)


@pytest.fixture(scope="module")
def airflow(
    ray_home: RayHome, other_ray: RayHome, airflow_env: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[AirflowHome]:
    """An Airflow that knows both clusters, and soon notices who has died; its logs are kept after a failed test."""
    env = {
        **airflow_env,
        "AIRFLOW_CONN_RAY_TEST": json.dumps({"conn_type": "ray", "extra": {"address": ray_home.address}}),
        "AIRFLOW_CONN_RAY_OTHER": json.dumps({"conn_type": "ray", "extra": {"address": other_ray.address}}),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    }
    # Another version of Airflow: AIRFREIGHT_AIRFLOW_VENV=.venvs/airflow-3.2.2 pytest tests/ray/plane
    venv = os.environ.get("AIRFREIGHT_AIRFLOW_VENV")
    with AirflowHome(Path(__file__).with_name("dags"), env=env, venv=Path(venv).absolute() if venv else None) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that the tests used are in {home.folder}")
