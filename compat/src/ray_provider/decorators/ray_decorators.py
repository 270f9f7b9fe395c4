"""Where ``airflow-provider-ray`` had its decorator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from ray_provider._ray_task import ray_task

__all__ = ["ray_task"]

__getattr__ = moved(__name__, {"ray_task": Moved("airfreight.decorators.ray_task", "ray_provider._ray_task.ray_task")})
