"""Where ``airflow-provider-ray`` had its hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from ray_provider._client_hook import RayClientHook

__all__ = ["RayClientHook"]

__getattr__ = moved(
    __name__, {"RayClientHook": Moved("airfreight.hooks.ray.RayHook", "ray_provider._client_hook.RayClientHook")}
)
