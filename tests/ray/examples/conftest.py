"""An Airflow for the examples: their folders, and the connection that they name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome
from ray_home.kube_server import KubeServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_home import RayHome

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="session")
def examples_kube(ray_home: RayHome) -> Iterator[KubeServer]:
    """A Kubernetes that needs none, all clusters of which are the one Ray."""
    with KubeServer.start("--dashboard", ray_home.address.removeprefix("http://")) as server:
        yield server


@pytest.fixture(scope="session")
def examples_airflow(
    ray_home: RayHome,
    examples_kube: KubeServer,
    airflow_env: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[AirflowHome]:
    # One example signs in with it, which a kubeconfig of Google Cloud needs.
    programs = tmp_path_factory.mktemp("programs")
    (programs / "gcloud").write_text("#!/bin/sh\n")
    (programs / "gcloud").chmod(0o755)
    env = airflow_env | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "AIRFLOW_CONN_RAY_KUBERNETES": json.dumps(
            {"conn_type": "ray", "extra": {"kube_config_path": str(examples_kube.kubeconfig)}}
        ),
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({"conn_type": "ray", "extra": {"address": ray_home.address}}),
    }
    folders = [EXAMPLES / name for name in ("dags", "ray", "notebook")]
    with AirflowHome(folders, env=env, parallelism=2) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that these tests used are in {home.folder}")
