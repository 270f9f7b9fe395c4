"""Decorators that make tasks of functions: ``@task.ray``, ``@ray.task`` and ``@ray_task`` are the same one."""

from airfreight.decorators.function import ray, ray_task

__all__ = ["ray", "ray_task"]
