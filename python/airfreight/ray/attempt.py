"""
Which Ray job belongs to which attempt of an Airflow task, so that there is never more than one.

A task's jobs are told apart by *generation* and *try*. Airflow raises ``max_tries`` when somebody clears a task and
leaves it alone when it retries, so ``max_tries`` numbers the generations; ``try_number`` only ever grows. Both stand
in the job's id and in its metadata, which Ray keeps: no other memory is needed to find the job of a worker that died.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight.ray import versions
from airfreight.ray.job import LIVE_STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Ray makes an undeletable zombie of an id with a slash, so nothing but these goes into one.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

_NAME_LENGTH_MAX = 40

#: The metadata that say whose a job is; Ray's metadata are texts.
TASK = "airfreight_task"
RUN = "airfreight_run"
DEPLOYMENT = "airfreight_deployment"
GENERATION = "airfreight_generation"
TRY = "try_number"


@dataclass(frozen=True, slots=True)
class Attempt:
    """
    One attempt of one task instance.

    :param generation: Airflow's ``max_tries``: raised by a clear, left alone by a retry.
    :param run: when the run has started, ISO 8601 in UTC: a run that was deleted and made anew under the same id, or
        by another Airflow, is another one.
    :param deployment: which Airflow this is.
    :param region: the loop or mapped group that the task runs in, as text; empty where Airflow knows none.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    generation: int
    run: str = ""
    deployment: str = ""
    region: str = ""

    @classmethod
    def of(cls, context: Any) -> Attempt:
        """The attempt that runs."""
        task_instance, run = context["ti"], context.get("dag_run")
        region_id = getattr(task_instance, "region_id", None)
        region = ""
        if region_id is not None and str(region_id).strip("0-"):
            region = f"{region_id}/{getattr(task_instance, 'region_index', -1)}"
        return cls(
            dag_id=task_instance.dag_id,
            run_id=task_instance.run_id,
            task_id=task_instance.task_id,
            map_index=-1 if task_instance.map_index is None else task_instance.map_index,
            try_number=task_instance.try_number,
            generation=task_instance.max_tries or 0,
            run=_began(run),
            deployment=_deployment(),
            region=region,
        )

    @property
    def task(self) -> str:
        """What all attempts of this task instance have in common, in whatever run of this id: 16 hexadecimal digits."""
        return digest(self.dag_id, self.run_id, self.task_id, str(self.map_index), self.region)

    @property
    def submission_id(self) -> str:
        """The id of this attempt's job, never used for another one; the names in it are for people."""
        names = [_UNSAFE.sub("_", name)[:_NAME_LENGTH_MAX] for name in (self.dag_id, self.task_id)]
        if self.map_index >= 0:
            names.append(str(self.map_index))
        return f"af-{'.'.join(names)}-{digest(self.task, self.run)}-{self.generation}-{self.try_number}"

    def named(self, wished: str) -> str:
        """
        The id of this attempt's job where the user has given one.

        Ray appends to the old log when an id is used again, so later attempts add their number.
        """
        return wished if self.try_number <= 1 else f"{wished}-{self.try_number}"

    def place(self) -> dict[str, Any]:
        """Where it is in Airflow, and in which."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            "deployment": self.deployment,
        }

    def metadata(self) -> dict[str, str]:
        """What the job says about itself in Ray."""
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": str(self.map_index),
            TRY: str(self.try_number),
            TASK: self.task,
            RUN: self.run,
            DEPLOYMENT: self.deployment,
            GENERATION: str(self.generation),
        }

    def submitted(self, job: Mapping[str, Any]) -> bool:
        """Whether the job is this very attempt's."""
        metadata = job.get("metadata") or {}
        return all(metadata.get(key) == value for key, value in self.metadata().items() if key != DEPLOYMENT)

    def plan(self, jobs: Iterable[Mapping[str, Any]]) -> Plan:
        """
        What to do in this attempt.

        :param jobs: those that Ray knows, of anybody.
        """
        mine, strangers = [], []
        for job in jobs:
            metadata = job.get("metadata") or {}
            known = _known(job) if metadata.get(TASK) == self.task else None
            if known is None:
                continue
            if metadata.get(RUN) == self.run:
                # Two Airflows don't start a run in the same microsecond.
                mine.append(known)
            elif metadata.get(DEPLOYMENT) == self.deployment and str(metadata.get(RUN)) < self.run:
                strangers.append(known)
        chosen = plan(self.generation, self.try_number, mine)
        orphans = (job.submission_id for job in strangers if job.status in LIVE_STATUSES)
        return Plan(chosen.take, (*chosen.stop, *orphans))


def _known(job: Mapping[str, Any]) -> Known | None:
    metadata = job["metadata"]
    try:
        generation, number = int(metadata[GENERATION]), int(metadata[TRY])
    except (KeyError, ValueError):
        return None
    if not job.get("submission_id"):
        return None
    return Known(str(job["submission_id"]), generation, number, str(job.get("status")))


def digest(*parts: str) -> str:
    """16 hexadecimal digits that stand for these texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _began(run: Any) -> str:
    """
    When a run has started, by Airflow's own clock: the same for all tasks and tries.

    It changes when a run that was over is cleared, which begins another generation anyway.
    """
    for name in ("start_date", "run_after", "logical_date"):
        if (moment := getattr(run, name, None)) is not None:
            return str(moment.astimezone(UTC).isoformat(timespec="microseconds"))
    return ""


def _deployment() -> str:
    from airfreight.process import here

    if name := here().settings.deployment:
        return name
    return digest(versions.configuration().get("api", "base_url", fallback="") or "")


class Known(NamedTuple):
    """A job of this task instance that Ray knows."""

    submission_id: str
    generation: int
    try_number: int
    status: str


class Plan(NamedTuple):
    """
    What an attempt does.

    :param take: the job to take over: to wait for if it is live, to take the result of if it has succeeded; ``None``
        says to submit one.
    :param stop: jobs to stop before.
    """

    take: Known | None
    stop: tuple[str, ...]


def plan(generation: int, try_number: int, known: Iterable[Known]) -> Plan:
    """
    The rule of exactly one job.

    An attempt takes over the live job of an earlier attempt of its generation, whose worker has vanished, or the
    result of one that nobody has delivered. Older generations were cleared: what lives of them is stopped.
    """
    known = list(known)
    mine = [job for job in known if job.generation == generation and job.try_number <= try_number]
    take = next(
        (
            job
            for statuses in (LIVE_STATUSES, {"SUCCEEDED"})
            for job in sorted(mine, key=lambda job: job.try_number, reverse=True)
            if job.status in statuses
        ),
        None,
    )
    stop = [
        job.submission_id
        for job in known
        # Whatever its generation: retries in the DAG file may have become fewer, and max_tries with them.
        if job.status in LIVE_STATUSES and job is not take and job.try_number <= try_number
    ]
    return Plan(take, tuple(stop))
