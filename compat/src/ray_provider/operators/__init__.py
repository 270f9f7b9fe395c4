"""The operators of ``astro-provider-ray``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster
    from ray_provider._astro import SubmitRayJob

__all__ = ["DeleteRayCluster", "SetupRayCluster", "SubmitRayJob"]

__getattr__ = moved(
    __name__,
    {
        "DeleteRayCluster": Moved("airfreight.operators.ray.DeleteRayCluster"),
        "SetupRayCluster": Moved("airfreight.operators.ray.SetupRayCluster"),
        "SubmitRayJob": Moved("airfreight.operators.ray.SubmitRayJob", "ray_provider._astro.SubmitRayJob"),
    },
)
