"""The hook of ``astro-provider-ray``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.hooks.ray import RayHook

__all__ = ["RayHook"]

__getattr__ = moved(__name__, {"RayHook": Moved("airfreight.hooks.ray.RayHook")})
