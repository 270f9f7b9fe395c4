"""
Where ``astro-provider-ray`` 0.1 and 0.2 had its decorator.

Importing this module makes it the attribute ``ray`` of the package above, in place of the decorator of that name, so
it is one, too: ``@ray.task`` works with either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from ray_provider._astro import ray, task

__all__ = ["ray", "task"]

__getattr__ = moved(
    __name__,
    {
        "ray": Moved("airfreight.decorators.ray", "ray_provider._astro.ray"),
        "task": Moved("airfreight.decorators.ray", "ray_provider._astro.task"),
    },
)
