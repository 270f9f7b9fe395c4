"""A cluster that tests may destroy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def frail_ray(request: pytest.FixtureRequest) -> Iterator[RayHome]:
    """A Ray of its own."""
    with RayHome.start() as ray:
        yield ray
        ray.keep = bool(request.session.testsfailed)
