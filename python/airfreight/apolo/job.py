"""What the platform says of a job, and the exceptions for jobs that didn't succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.apolo.types import JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

try:
    from airflow.sdk.exceptions import AirflowException
except ImportError:  # Airflow 3.0 and 3.1
    from airflow.exceptions import AirflowException  # type: ignore[attr-defined,no-redef,unused-ignore]

#: The exit code where the platform has none, as the old plugin and ``docker run`` have it.
EX_PLATFORMERROR = 125

#: What may go with a trigger's event, which Airflow keeps in its database: a job's environment may be secret.
_PUBLIC = ("id", "name", "status", "history", "http_url", "http_url_named", "cluster_name", "org_name", "project_name")

_DESCRIPTION_LENGTH_MAX = 2000


class JobFailed(AirflowException, RuntimeError):
    """
    The job failed, was cancelled, or never started.

    :param job: what the platform says of it.
    """

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__(_failure(job))
        self.job_id: str = str(job.get("id"))
        self.status = JobStatus.of(job.get("status"))
        #: The container's, or 125 where the platform has none.
        self.exit_code: int = exit_code(job) or EX_PLATFORMERROR
        self.reason: str | None = _history(job).get("reason") or None
        self.description: str | None = _history(job).get("description") or None


class JobTimeout(AirflowException, TimeoutError):
    """The job took longer than the task allows."""


def public(job: Mapping[str, Any]) -> dict[str, Any]:
    """What an event may say of a job."""
    return {key: job[key] for key in _PUBLIC if job.get(key) is not None}


def exit_code(job: Mapping[str, Any]) -> int | None:
    """The container's exit code, where the platform knows one."""
    code = _history(job).get("exit_code")
    return code if isinstance(code, int) else None


def result(job: Mapping[str, Any], code: int | None) -> dict[str, Any]:
    """A job as XComs have it."""
    url = job.get("http_url_named") or job.get("http_url") or ""
    return {"id": str(job["id"]), "exit_code": code, "status": str(job["status"]), "http_url": str(url)}


def _history(job: Mapping[str, Any]) -> Mapping[str, Any]:
    return job.get("history") or {}


def _failure(job: Mapping[str, Any]) -> str:
    status, history = JobStatus.of(job.get("status")), _history(job)
    code = exit_code(job)
    if status is JobStatus.CANCELLED:
        what = "was cancelled"
    elif status is JobStatus.FAILED and not history.get("started_at") and code is None:
        what = "has failed without having started"
    elif status is JobStatus.FAILED:
        what = "has failed"
    else:
        what = f"is {status}"
    causes = [f"exit code {code}"] if code is not None else []
    if history.get("reason"):
        causes.append(str(history["reason"]))
    cause = f" ({', '.join(causes)})" if causes else ""
    text = f"Apolo job {job.get('id')} {what}{cause}"
    description = str(history.get("description") or "").strip()[:_DESCRIPTION_LENGTH_MAX]
    return f"{text}: {description}" if description else text
