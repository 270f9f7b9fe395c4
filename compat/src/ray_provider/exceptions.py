"""What ``astro-provider-ray`` raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.ray.job import RayJobError as RayAirflowException

__all__ = ["RayAirflowException"]

__getattr__ = moved(__name__, {"RayAirflowException": Moved("airfreight.ray.job.RayJobError")})
