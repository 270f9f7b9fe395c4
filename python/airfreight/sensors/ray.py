"""A sensor for Ray jobs that somebody else has submitted."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator

from airfreight.errors import ObjectNotFoundError
from airfreight.ray import versions
from airfreight.ray.job import RayJobFailedError
from airfreight.ray.links import RayJobLink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airfreight._remote import RayClient
    from airfreight.hooks.ray import RayHook


class RayJobSensor(BaseSensorOperator):
    """
    Waits until a Ray job has succeeded, and fails if it has failed or was stopped. It never stops the job.

    :param job_id: the job's submission id.
    :param conn_id: the Airflow connection, of the type ``ray``.
    :param fetch_logs: copy the job's log into the task's log; only where the task waits without a break, which in mode
        ``poke`` or ``reschedule`` it doesn't.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says.
    """

    template_fields: Sequence[str] = ("job_id", "conn_id")
    operator_extra_links = (RayJobLink(),)
    ui_color = "#d5e8f8"

    def __init__(
        self,
        *,
        job_id: str,
        conn_id: str = "ray_default",
        fetch_logs: bool = False,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.conn_id = conn_id
        self.fetch_logs = fetch_logs
        self.deferrable = versions.default_deferrable() if deferrable is None else deferrable
        self.job_url = ""
        self._status: str | None = None

    @cached_property
    def hook(self) -> RayHook:
        """The connection."""
        from airfreight.hooks.ray import RayHook

        return RayHook(self.conn_id)

    @cached_property
    def client(self) -> RayClient:
        """The cluster."""
        return self.hook.ray_client()

    def poke(self, context: Context) -> bool:  # noqa: ARG002
        """Whether the job has succeeded."""
        with versions.no_retry_in_vain():
            self.job_url = self.client.job_url(self.job_id)
            job = self.client.job(self.job_id)
            if job is None:
                raise ObjectNotFoundError(f"Ray knows no job {self.job_id}", "look at `airfreight ray list`")
            if job["status"] != self._status:
                self._status = job["status"]
                self.log.info("Ray job %s is %s", self.job_id, self._status)
            if job["status"] in ("FAILED", "STOPPED"):
                raise RayJobFailedError(job)
            return bool(job["status"] == "SUCCEEDED")

    def execute(self, context: Context) -> Any:
        """Wait, in the triggerer if it can."""
        if not (self.deferrable and versions.can_defer()):
            return super().execute(context)
        if not self.poke(context):
            self._defer(context)
        return None

    def _defer(self, context: Context) -> NoReturn:
        from dataclasses import asdict

        from airfreight.ray.supervisor import Waiting
        from airfreight.triggers.ray import RayJobTrigger

        self.defer(
            trigger=RayJobTrigger(
                job_id=self.job_id,
                conn_id=self.conn_id,
                fetch_logs=self.fetch_logs,
                deadline=time.time() + self.timeout,
                on_kill="leave",
                attempt=asdict(Waiting.of(context["ti"])),
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Go on after the trigger has seen the end of the job."""
        from airfreight.ray import waiting

        end = dict(event or {})
        status = str(end.get("status"))
        with versions.no_retry_in_vain():
            self.job_url = self.client.job_url(self.job_id)
            waiting.copy_rest(self.client, end, self.log)
            if status == waiting.TIMEOUT and self.soft_fail:
                raise versions.exceptions().AirflowSkipException(str(end.get("message")))
            if status in ("FAILED", "STOPPED"):
                raise RayJobFailedError(self.client.job(self.job_id) or end.get("job") or {"status": status})
            if status != "SUCCEEDED":
                waiting.raise_for(end)
