"""Where ``astro-provider-ray`` 0.1 and 0.2 had its trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.triggers.ray import RayJobTrigger

__all__ = ["RayJobTrigger"]

__getattr__ = moved(__name__, {"RayJobTrigger": Moved("airfreight.triggers.ray.RayJobTrigger")})
