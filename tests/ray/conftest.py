"""One Ray for all tests that run something on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Iterator


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
