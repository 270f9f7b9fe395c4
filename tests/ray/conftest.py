"""One Ray for all tests that run something on Ray, and a server that fails on demand for those that run nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ray_home import RayHome
from ray_home.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def ray_home(request: pytest.FixtureRequest) -> Iterator[RayHome]:
    """
    A running Ray without a token, shared by all tests: choose submission ids that no other test has.

    After a failed test its folder with all logs is kept.
    """
    with RayHome.start() as ray:
        yield ray
        if request.session.testsfailed:
            ray.keep = True
            print(f"\nThe logs of the Ray that the tests used are in {ray.logs}")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[FaultServer]:
    with FaultServer.start() as server:
        yield server


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the connection ``ray_default``: its extra, and other fields by name."""

    def connect(extra: dict[str, Any], **fields: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "ray", "extra": extra, **fields}))

    return connect


@pytest.fixture
def server(shared_server: FaultServer, connect: Callable[..., None]) -> FaultServer:
    """The module's fault server as if it had just started, with the connection ``ray_default`` to it."""
    shared_server.control("POST", "/session")
    shared_server.control("DELETE", "")
    shared_server.control("POST", "/script", {})
    connect({"address": shared_server.address, "patience": 5})
    return shared_server
