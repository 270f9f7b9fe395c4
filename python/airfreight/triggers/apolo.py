"""Waiting for an Apolo job in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airfreight.apolo import waiting
from airfreight.triggers.job import JobTrigger, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airfreight._remote import ApoloClient, Watch

#: The XCom that says how much of a job's log stands in the task's log.
CURSOR_KEY = "apolo_log_cursor"


class ApoloJobTrigger(JobTrigger):
    """
    Waits for a job, copies its log into the task's log, and fires once.

    All triggers of a triggerer share one client per platform and token, which runs beside the event loop.

    :param job_id: the job.
    :param conn_id: the Airflow connection.
    :param until: ``end``, ``start``, or a status: then it fires when the job has another one.
    :param poll_interval: seconds between two questions.
    :param fetch_logs: whether to copy the log.
    :param cursor: how far the log has been copied already.
    :param deadline: Unix time at which the job has taken too long.
    :param on_kill: ``stop`` or ``leave``: what becomes of the job when a user kills the task or its time is over.
    :param attempt: the waiting task instance, where the trigger can't learn that from Airflow.
    """

    platform: ClassVar[str] = "Apolo"
    words: ClassVar[Words] = waiting
    cursor_key: ClassVar[str] = CURSOR_KEY

    def __init__(
        self,
        job_id: str,
        conn_id: str = "apolo_default",
        *,
        until: str = "end",
        poll_interval: float = 5.0,
        fetch_logs: bool = False,
        cursor: str | None = None,
        deadline: float | None = None,
        on_kill: str = "leave",
        attempt: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            job_id, fetch_logs=fetch_logs, cursor=cursor, deadline=deadline, on_kill=on_kill, attempt=attempt
        )
        self.conn_id = conn_id
        self.until = until
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of it; a restarted trigger is made from this alone. No token is in it."""
        return (
            "airfreight.triggers.apolo.ApoloJobTrigger",
            {
                "job_id": self.job_id,
                "conn_id": self.conn_id,
                "until": self.until,
                "poll_interval": self.poll_interval,
                "fetch_logs": self.fetch_logs,
                "cursor": self.cursor,
                "deadline": self.deadline,
                "on_kill": self.kill_action,
                "attempt": None if self.attempt is None else dict(self.attempt),
            },
        )

    async def _find_place(self) -> _Place:
        from airfreight.hooks.apolo import ApoloHook

        hook = await ApoloHook.acreate(self.conn_id)
        return _Place(hook.connection.client())

    def _follow(self, *, logs: bool, cursor: str | None) -> Watch:
        client: ApoloClient = self._place.client
        return client.watch(
            self.job_id,
            until=self.until,
            logs=logs,
            cursor=cursor,
            deadline=self.deadline,
            poll_interval=self.poll_interval,
        )

    def _payload(self, end: dict[str, Any]) -> dict[str, Any]:
        # Who waits on must know how long.
        return {**end, "deadline": self.deadline}


class _Place:
    """The platform, as the trigger stops what runs there."""

    def __init__(self, client: ApoloClient) -> None:
        self.client = client

    def stop(self, job_id: str) -> None:
        self.client.kill(job_id)
