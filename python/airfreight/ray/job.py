"""What Ray says of a job, and the exceptions for jobs that didn't succeed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A job in one of these states changes no more.
TERMINAL_STATUSES = frozenset({"SUCCEEDED", "STOPPED", "FAILED"})

LIVE_STATUSES = frozenset({"PENDING", "RUNNING"})

#: What may leave the cluster with a trigger's event, which Airflow keeps in its database: a runtime environment's
#: variables may be secret.
_PUBLIC = (
    "submission_id",
    "job_id",
    "status",
    "message",
    "error_type",
    "start_time",
    "end_time",
    "driver_exit_code",
    "driver_node_id",
)

_MESSAGE_LINES = 12
_MESSAGE_LENGTH_MAX = 4000


class RayJobError(RuntimeError):
    """
    A Ray job didn't come to its good end.

    :param submission_id: the job.
    """

    def __init__(self, message: str, submission_id: str) -> None:
        super().__init__(message)
        self.submission_id = submission_id


class RayJobFailedError(RayJobError):
    """
    The job has failed, or somebody has stopped it.

    :param job: what Ray says of it.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__(_failure(job), str(job.get("submission_id")))
        self.status: str = str(job.get("status"))
        #: What Ray says of the failure, mostly with the last lines of the log.
        self.message: str = str(job.get("message") or "")
        self.error_type: str | None = job.get("error_type")
        self.exit_code: int | None = job.get("driver_exit_code")


class RayJobTimeoutError(RayJobError, TimeoutError):
    """The job took longer than the task allows."""


class RayJobLostError(RayJobError):
    """Ray doesn't know the job any more."""


def public(job: Mapping[str, Any]) -> dict[str, Any]:
    """What an event may say of a job."""
    return {key: job[key] for key in _PUBLIC if job.get(key) is not None}


def moment(milliseconds: float | None) -> str | None:
    """A time of Ray's as ISO 8601 in UTC; ``None`` when Ray has none."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _failure(job: Mapping[str, Any]) -> str:
    status = str(job.get("status"))
    what = "was stopped" if status == "STOPPED" else "has failed" if status == "FAILED" else f"is {status}"
    causes = [str(job["error_type"])] if job.get("error_type") else []
    if job.get("driver_exit_code") is not None:
        causes.append(f"exit code {job['driver_exit_code']}")
    cause = f" ({', '.join(causes)})" if causes else ""
    text = f"Ray job {job.get('submission_id')} {what}{cause}"
    message = _last_lines(str(job.get("message") or ""))
    return f"{text}:\n{message}" if message else text


def _last_lines(message: str) -> str:
    lines = message.rstrip().splitlines()
    # Ray's own sentence comes first, then the end of the log.
    shown = lines if len(lines) <= _MESSAGE_LINES else [lines[0], "…", *lines[2 - _MESSAGE_LINES :]]
    text = "\n".join(shown)
    return text if len(text) <= _MESSAGE_LENGTH_MAX else f"…{text[-_MESSAGE_LENGTH_MAX:]}"
