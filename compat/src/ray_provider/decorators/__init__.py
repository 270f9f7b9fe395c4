"""The decorators: ``ray`` of ``astro-provider-ray``, ``ray_task`` of ``airflow-provider-ray``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from ray_provider._astro import ray
    from ray_provider._ray_task import ray_task

__all__ = ["ray", "ray_task"]

__getattr__ = moved(
    __name__,
    {
        "ray": Moved("airfreight.decorators.ray", "ray_provider._astro.ray"),
        "ray_task": Moved("airfreight.decorators.ray_task", "ray_provider._ray_task.ray_task"),
    },
)
