"""A Kubernetes that needs none, whose forwarded ports lead to a dashboard without Ray."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ray_home.kube_server import KubeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_home.fault_server import FaultServer


@pytest.fixture(scope="module")
def shared_kube(shared_server: FaultServer) -> Iterator[KubeServer]:
    with KubeServer.start("--dashboard", f"127.0.0.1:{shared_server.port}") as server:
        yield server


@pytest.fixture
def kube(shared_kube: KubeServer, server: FaultServer, connect: Callable[..., None]) -> KubeServer:
    """The module's API server as if it had just started, with the connection ``ray_default`` to it."""
    shared_kube.reset()
    connect({"kube_config_path": str(shared_kube.kubeconfig), "patience": 5})
    return shared_kube


class Task:
    """One task instance over its attempts, with the XComs that it has pushed."""

    def __init__(self, name: str = "train") -> None:
        self.xcoms: dict[str, Any] = {}
        self.run_began = datetime.now(UTC)
        self.instance = SimpleNamespace(
            dag_id="flights",
            run_id="r",
            task_id=name,
            map_index=-1,
            try_number=1,
            max_tries=2,
            start_date=datetime.now(UTC),
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
            xcom_pull=lambda task_ids, key: self.xcoms.get(key),
        )

    @property
    def context(self) -> Any:
        return {
            "ti": self.instance,
            "dag_run": SimpleNamespace(start_date=self.run_began),
            "dag": SimpleNamespace(fileloc=__file__),
        }


@pytest.fixture
def task() -> Task:
    return Task()


@pytest.fixture
def other() -> Task:
    """A task of another name, of the same run."""
    return Task("other")
