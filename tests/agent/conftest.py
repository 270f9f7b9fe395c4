"""What the tests of agents share: three hosts with networks of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from host_home import Network, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from host_home import Host


@pytest.fixture(scope="session")
def _can_have_hosts() -> None:
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture
def network(_can_have_hosts: None) -> Iterator[Network]:
    """Three hosts that reach each other; an agent runs on each."""
    with Network("ant", "bee", "cat") as network:
        for host in network.hosts:
            host.start_agent()
        yield network


@pytest.fixture
def hosts(network: Network) -> tuple[Host, Host, Host]:
    """The hosts alone."""
    first, second, third = network.hosts
    return first, second, third
