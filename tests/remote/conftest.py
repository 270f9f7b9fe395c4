"""A dashboard that fails on demand, and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airfreight._remote import RayClient
from ray_home.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer.start() as server:
        yield server


@pytest.fixture
def client(server: FaultServer) -> RayClient:
    return RayClient(server.address, timeout=20, patience=60)
