"""A cluster with room for values, a runner on it, and stores on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transfer_home import MIB, Far, Near, near

from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def here() -> Iterator[Near]:
    """A store with room."""
    with near(600, 0) as made:
        yield made


@pytest.fixture
def there() -> Iterator[Near]:
    """The store of another host, where values arrive."""
    with near(600, 0) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[RayHome]:
    """A Ray that keeps a few values of 200 MB."""
    with RayHome.start(object_store_bytes=1000 * MIB) as ray:
        yield ray
        if request.session.testsfailed:
            ray.keep = True
            print(f"\nThe logs of the Ray that the tests used are in {ray.logs}")


@pytest.fixture(scope="module")
def shared_far(cluster: RayHome) -> Far:
    return Far(cluster)


@pytest.fixture
def far(shared_far: Far) -> Iterator[Far]:
    """The cluster's runner; what the test has left there goes."""
    yield shared_far
    shared_far.drop_owners()
