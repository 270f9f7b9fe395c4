"""A cluster that tests may destroy, and an Airflow that works on it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from survival_home import actors

from airflow_home import AirflowHome
from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def frail_ray(request: pytest.FixtureRequest) -> Iterator[RayHome]:
    """A Ray of its own, which may be killed and restarted."""
    with RayHome.start() as ray:
        yield ray
        ray.keep = bool(request.session.testsfailed)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where checkpoints go."""
    return tmp_path_factory.mktemp("checkpoints").as_uri()


@pytest.fixture(scope="module")
def frail_airflow(
    frail_ray: RayHome, bucket: str, airflow_env: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[AirflowHome]:
    """An Airflow whose tasks run warm on that Ray; its logs are kept after a failed test."""
    env = airflow_env | {
        "AIRFLOW__AIRFREIGHT__RAY_MODE": "warm",
        "AIRFLOW__AIRFREIGHT__CHECKPOINT": bucket,
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps(
            {"conn_type": "ray", "extra": {"address": frail_ray.address, "patience": 120}}
        ),
    }
    with AirflowHome(Path(__file__).with_name("dags"), env=env) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that the tests used are in {home.folder}")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the gates of a run wait for."""
    return tmp_path / "gate"


@pytest.fixture
def kill_actor(frail_ray: RayHome) -> Callable[[str], None]:
    """Kills the process of a named actor, as the kernel would."""

    def kill(name: str) -> None:
        (actor,) = [each for each in actors(frail_ray) if each["name"] == name and each["state"] == "ALIVE"]
        os.kill(actor["pid"], signal.SIGKILL)

    return kill
