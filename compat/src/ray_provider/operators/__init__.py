"""The operators of ``astro-provider-ray``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster, SubmitRayJob

__all__ = ["DeleteRayCluster", "SetupRayCluster", "SubmitRayJob"]

__getattr__ = moved(__name__, {name: Moved(f"airfreight.operators.ray.{name}") for name in __all__})
