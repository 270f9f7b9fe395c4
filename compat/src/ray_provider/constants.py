"""What ``astro-provider-ray`` called terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_provider._moved import Moved, moved

if TYPE_CHECKING:
    from airfreight.ray.job import TERMINAL_STATUSES as TERMINAL_JOB_STATUSES

__all__ = ["TERMINAL_JOB_STATUSES"]

__getattr__ = moved(__name__, {"TERMINAL_JOB_STATUSES": Moved("airfreight.ray.job.TERMINAL_STATUSES")})
