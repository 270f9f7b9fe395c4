"""An Airflow that was configured for the old packages: their backend, their connection, their pool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_home import RayHome


@pytest.fixture(scope="module")
def old_airflow(ray_home: RayHome, store_folder: Path, request: pytest.FixtureRequest) -> Iterator[AirflowHome]:
    env = {
        "AIRFLOW__CORE__XCOM_BACKEND": "ray_provider.xcom.ray_backend.RayBackend",
        "AIRFLOW__AIRFREIGHT__STORE_PATH": str(store_folder / "old"),
        "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(store_folder / "old-spill"),
        "AIRFLOW_CONN_RAY_CLUSTER_CONNECTION": json.dumps(
            {"conn_type": "http", "extra": {"address": ray_home.address}}
        ),
        "ray_store_identifier": "ray_kv_store",
        "CHECKPOINTING_CLOUD_STORAGE": "AWS",
    }
    with AirflowHome(Path(__file__).parent / "dags", env=env) as home:
        home.request("POST", "/pools", {"name": "ray_worker_pool", "slots": 25})
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that these tests used are in {home.folder}")
