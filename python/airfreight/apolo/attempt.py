"""
Which job belongs to which attempt of a task, by tags.

The rule is that of :mod:`airfreight.ray.attempt`. Apolo chooses the ids, so what stands in the ids of Ray's jobs stands
in tags here: one that all attempts of a task instance have in common, and one that no other job has.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from airfreight.apolo.types import JobStatus
from airfreight.ray.attempt import Attempt, Known, Plan, digest, plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PREFIX = "airfreight:"


def task_tag(attempt: Attempt) -> str:
    """The tag of all jobs of this task instance in this run."""
    return f"{_PREFIX}{digest(attempt.task, attempt.run)}"


def new_tag(attempt: Attempt) -> str:
    """A tag that no other job has: by it a job is found whose creation was answered to nobody."""
    return f"{task_tag(attempt)}:{attempt.generation}:{attempt.try_number}:{secrets.token_hex(8)}"


def choose(attempt: Attempt, jobs: Iterable[Mapping[str, Any]]) -> Plan:
    """
    What to do in this attempt: which job to take over, and which to cancel before.

    :param jobs: those with the task's tag.
    """
    return plan(attempt.generation, attempt.try_number, [known for job in jobs if (known := _known(attempt, job))])


def _known(attempt: Attempt, job: Mapping[str, Any]) -> Known | None:
    prefix = f"{task_tag(attempt)}:"
    for tag in job.get("tags") or ():
        numbers = tag.removeprefix(prefix).split(":") if tag.startswith(prefix) else []
        if len(numbers) == 3 and numbers[0].isdecimal() and numbers[1].isdecimal():
            return Known(str(job["id"]), int(numbers[0]), int(numbers[1]), _word(JobStatus.of(job.get("status"))))
    return None


def _word(status: JobStatus) -> str:
    if not status.is_finished:
        return "RUNNING"
    return "SUCCEEDED" if status is JobStatus.SUCCEEDED else "FAILED"
