"""An Airflow for the examples: their folders, and the connection that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_home import RayHome

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def examples_airflow(
    ray_home: RayHome, airflow_env: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[AirflowHome]:
    env = airflow_env | {
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({"conn_type": "ray", "extra": {"address": ray_home.address}}),
    }
    folders = [EXAMPLES / name for name in ("dags", "ray", "notebook")]
    with AirflowHome(folders, env=env, parallelism=2) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that these tests used are in {home.folder}")
