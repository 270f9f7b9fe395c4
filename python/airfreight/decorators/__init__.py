"""
Decorators that make tasks of functions: ``@task.ray``, ``@ray.task`` and ``@ray_task`` are the same one.

``@checkpoint`` stands below any ``@task`` and has its value copied to a bucket.
"""

from airfreight.decorators.checkpoint_of import checkpoint
from airfreight.decorators.function import ray, ray_task

__all__ = ["checkpoint", "ray", "ray_task"]
