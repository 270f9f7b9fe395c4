"""The trigger of ``astro-provider-ray``, under the name that it has in databases of before an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.triggers.ray import RayJobTrigger

__all__ = ["RayJobTrigger"]

__getattr__ = moved(__name__, {"RayJobTrigger": Moved("airfreight.triggers.ray.RayJobTrigger")})
