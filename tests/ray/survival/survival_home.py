"""What the tests of survival ask of a cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ray_home import RayHome


def actors(ray: RayHome) -> list[dict[str, Any]]:
    """Every actor that the cluster remembers."""
    found: list[dict[str, Any]] = ray.request("GET", "/api/v0/actors?limit=1000&detail=1")["data"]["result"]["result"]
    return found


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return what the condition gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.05)
    return found
