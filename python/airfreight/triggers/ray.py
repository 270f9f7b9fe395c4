"""Waiting for a Ray job in the triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from airfreight.ray import waiting
from airfreight.ray.supervisor import CURSOR_KEY
from airfreight.triggers.job import JobTrigger, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airfreight._remote import RayClient, Watch
    from airfreight.ray.warm import Calls


class RayJobTrigger(JobTrigger):
    """
    Waits for a Ray job, copies its log into the task's log, and fires once when the job is over.

    All triggers of a triggerer share one watcher per cluster, which runs beside the event loop.

    :param job_id: the job's submission id.
    :param conn_id: the Airflow connection.
    :param xcom_dashboard_url: another dashboard than the connection's.
    :param ray_cluster_yaml: taken for the sake of triggers that astronomer's provider has serialised; without effect.
    :param gpu_device_plugin_yaml: likewise.
    :param poll_interval: likewise: how often Ray is asked follows from how many jobs are watched.
    :param fetch_logs: whether to copy the log.
    :param cursor: how far the log has been copied already.
    :param deadline: Unix time at which the job has taken too long and is stopped.
    :param on_kill: ``stop`` or ``leave``: what becomes of the job when a user kills the task or its time is over.
    :param session: Ray's session under which the job was submitted.
    :param attempt: the waiting task instance, where the trigger can't learn that from Airflow.
    :param owner: for a call of the cluster's runner in place of a job: the owner of its DAG run there.
    """

    platform: ClassVar[str] = "Ray"
    words: ClassVar[Words] = waiting
    cursor_key: ClassVar[str] = CURSOR_KEY

    def __init__(
        self,
        job_id: str,
        conn_id: str = "ray_default",
        xcom_dashboard_url: str | None = None,
        ray_cluster_yaml: str | None = None,
        gpu_device_plugin_yaml: str = "",
        poll_interval: float = 30,
        fetch_logs: bool = True,
        *,
        cursor: str | None = None,
        deadline: float | None = None,
        on_kill: str = "stop",
        session: str | None = None,
        attempt: Mapping[str, Any] | None = None,
        owner: str | None = None,
    ) -> None:
        super().__init__(
            job_id, fetch_logs=fetch_logs, cursor=cursor, deadline=deadline, on_kill=on_kill, attempt=attempt
        )
        self.conn_id = conn_id
        self.dashboard_url = xcom_dashboard_url
        self.ray_cluster_yaml = ray_cluster_yaml
        self.gpu_device_plugin_yaml = gpu_device_plugin_yaml
        self.poll_interval = poll_interval
        self.session = session
        self.owner = owner

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of it; a restarted trigger is made from this alone."""
        # A triggerer that knows nothing of calls can still wait for jobs.
        of_call = {} if self.owner is None else {"owner": self.owner}
        return (
            "airfreight.triggers.ray.RayJobTrigger",
            {
                "job_id": self.job_id,
                "conn_id": self.conn_id,
                "xcom_dashboard_url": self.dashboard_url,
                "ray_cluster_yaml": self.ray_cluster_yaml,
                "gpu_device_plugin_yaml": self.gpu_device_plugin_yaml,
                "poll_interval": self.poll_interval,
                "fetch_logs": self.fetch_logs,
                "cursor": self.cursor,
                "deadline": self.deadline,
                "on_kill": self.kill_action,
                "session": self.session,
                "attempt": None if self.attempt is None else dict(self.attempt),
                **of_call,
            },
        )

    async def _find_place(self) -> RayClient | Calls:
        """Where the work runs."""
        from airfreight.hooks.ray import RayHook

        hook = await RayHook.acreate(self.conn_id)
        client = hook.ray_client(self.dashboard_url)
        if self.owner is None:
            return client
        from airfreight.ray import plane
        from airfreight.ray.warm import Calls

        # Reads the files of the package that the runner is made of.
        runner = await asyncio.to_thread(plane.runner, hook.connection, client)
        return Calls(client, runner, self.owner)

    def _follow(self, *, logs: bool, cursor: str | None) -> Watch:
        watch: Watch = self._place.watch(
            self.job_id, logs=logs, cursor=cursor, session=self.session, deadline=self.deadline
        )
        return watch

    def _payload(self, end: dict[str, Any]) -> dict[str, Any]:
        return end if self.owner is None else {**end, "owner": self.owner}
