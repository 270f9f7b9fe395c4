"""Sensors for jobs on Apolo (formerly neu.ro)."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator

from airfreight.apolo.job import JobFailed
from airfreight.apolo.types import JobDescription, JobStatus
from airfreight.ray import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow.sdk import Context

    from airfreight._remote import ApoloClient
    from airfreight.hooks.apolo import ApoloHook

__all__ = ["ApoloJobSensor", "ApoloJobStatusSensor", "JobDescription", "JobStatus"]


class ApoloJobSensor(BaseSensorOperator):
    """
    Waits until a function says that a job is as wished; and fails when the job is over and it still isn't.

    :param job_id: the job: its id, its name, or what an operator has returned.
    :param job_status_cb: called with the :class:`~airfreight.apolo.types.JobDescription` whenever there may be news.
    :param apolo_conn_id: the Airflow connection.
    :param deferrable: wait in the triggerer, which asks every ``poll_interval`` seconds and calls the function, in a
        worker, when the job's status has changed; by default as ``[operators] default_deferrable`` says.
    :param poll_interval: seconds between two questions of the triggerer's.
    """

    template_fields: Sequence[str] = ("job_id", "apolo_conn_id")
    ui_color = "#f7e1f9"
    ui_fgcolor = "#3c013f"

    def __init__(
        self,
        *,
        job_id: Any,
        job_status_cb: Callable[[JobDescription], bool],
        apolo_conn_id: str = "apolo_default",
        deferrable: bool | None = None,
        poll_interval: float = 5.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.job_status_cb = job_status_cb
        self.apolo_conn_id = apolo_conn_id
        self.deferrable = versions.default_deferrable() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self._status: str | None = None

    @property
    def conn_id(self) -> str:
        """The Airflow connection."""
        return self.apolo_conn_id

    @cached_property
    def hook(self) -> ApoloHook:
        """The connection's hook."""
        from airfreight.hooks.apolo import ApoloHook

        return ApoloHook(self.conn_id)

    @cached_property
    def client(self) -> ApoloClient:
        """The platform."""
        return self.hook.get_conn()

    def poke(self, context: Context) -> bool:  # noqa: ARG002
        """Whether the job is as wished."""
        with versions.no_retry_in_vain():
            return self._is_there(self.client.job(self._job_id()))

    def execute(self, context: Context) -> Any:
        """Wait, in the triggerer if it can."""
        if not (self.deferrable and versions.can_defer()):
            return super().execute(context)
        if not self.poke(context):
            self._defer(context, time.time() + self.timeout)
        return None

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:
        """Look again after the trigger has seen another status."""
        from airfreight.apolo import waiting

        end = dict(event or {})
        with versions.no_retry_in_vain():
            if end.get("status") == waiting.TIMEOUT:
                # Which Airflow doesn't retry, as it doesn't where a worker waits.
                kinds = versions.exceptions()
                kind = kinds.AirflowSkipException if self.soft_fail else kinds.AirflowSensorTimeout
                raise kind(f"Apolo job {end['job_id']} was not as wished within {self.timeout:.0f} s")
            waiting.raise_for(end)
        if not self.poke(context):
            self._defer(context, float(end["deadline"]))

    def _job_id(self) -> str:
        job = self.job_id
        return str(job["id"] if isinstance(job, dict) else job).strip()

    def _is_there(self, job: dict[str, Any]) -> bool:
        if job["status"] != self._status:
            self._status = job["status"]
            self.log.info("Apolo job %s is %s", job["id"], self._status)
        if self.job_status_cb(JobDescription(job)):
            return True
        if JobStatus.of(job["status"]).is_finished:
            # It stays as it is, and so does what is asked of it.
            if self.soft_fail:
                raise versions.exceptions().AirflowSkipException(str(JobFailed(job)))
            raise JobFailed(job)
        return False

    def _defer(self, context: Context, deadline: float) -> NoReturn:
        from dataclasses import asdict

        from airfreight.ray.supervisor import Waiting
        from airfreight.triggers.apolo import ApoloJobTrigger

        self.defer(
            trigger=ApoloJobTrigger(
                job_id=self._job_id(),
                conn_id=self.conn_id,
                until=self._status or "end",
                poll_interval=self.poll_interval,
                deadline=deadline,
                attempt=asdict(Waiting.of(context["ti"])),
            ),
            method_name="execute_complete",
        )


class ApoloJobStatusSensor(ApoloJobSensor):
    """
    Waits until a job has one of some statuses; and fails when the job is over with another.

    :param job_id: the job: its id, its name, or what an operator has returned.
    :param job_statuses: the statuses, as :class:`~airfreight.apolo.types.JobStatus` or as words.
    """

    def __init__(
        self,
        *,
        job_id: Any,
        job_statuses: Iterable[JobStatus | str] = (JobStatus.SUCCEEDED, JobStatus.FAILED),
        **kwargs: Any,
    ) -> None:
        kwargs["job_status_cb"] = self._has_status
        super().__init__(job_id=job_id, **kwargs)
        self.job_statuses = tuple(job_statuses)

    def _has_status(self, job: JobDescription) -> bool:
        return job.status in {JobStatus.of(status) for status in self.job_statuses}
