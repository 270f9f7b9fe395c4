"""Waiting for a Ray job in the triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from airfreight.errors import AirfreightError
from airfreight.ray import waiting
from airfreight.ray.supervisor import CURSOR_KEY
from airfreight.triggers.job import JobTrigger, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airfreight._remote import RayClient, Watch
    from airfreight.ray.connection import RayConnection
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
    :param cluster: the cluster on Kubernetes that goes with the task: a
        :class:`~airfreight.ray.kubernetes.KubeCluster`'s fields.
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
        cluster: Mapping[str, Any] | None = None,
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
        self.cluster = cluster
        self._connection: RayConnection | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of it; a restarted trigger is made from this alone."""
        # A triggerer that knows nothing of calls and clusters can still wait for jobs.
        more = {"owner": self.owner, "cluster": None if self.cluster is None else dict(self.cluster)}
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
                **{name: value for name, value in more.items() if value is not None},
            },
        )

    async def _find_place(self) -> RayClient | Calls:
        """Where the work runs."""
        from airfreight.hooks.ray import RayHook

        hook = await RayHook.acreate(self.conn_id)
        self._connection = hook.connection
        # Asks an API server for the way, if the cluster is on Kubernetes.
        client = await asyncio.to_thread(hook.ray_client, self.dashboard_url)
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

    async def _abandon(self, why: str) -> None:
        if self.cluster is None or self.kill_action == "leave":
            await super()._abandon(why)
        else:
            # Its job goes with it.
            await _delete(self.conn_id, self._connection, self.cluster, self.log, why)

    def _payload(self, end: dict[str, Any]) -> dict[str, Any]:
        more = {"owner": self.owner, "cluster": None if self.cluster is None else dict(self.cluster)}
        return {**end, **{name: value for name, value in more.items() if value is not None}}


class RayClusterTrigger(JobTrigger):
    """
    Waits until a Ray cluster on Kubernetes serves, a line in the task's log for each change, and fires once.

    :param conn_id: the Airflow connection.
    :param cluster: a :class:`~airfreight.ray.kubernetes.KubeCluster`'s fields; one that is the task's own is deleted
        when a user kills the task.
    :param deadline: Unix time at which to give it up.
    :param attempt: the waiting task instance, where the trigger can't learn that from Airflow.
    """

    platform: ClassVar[str] = "Kubernetes"
    words: ClassVar[Words] = waiting
    cursor_key: ClassVar[str] = CURSOR_KEY

    def __init__(
        self, conn_id: str, cluster: Mapping[str, Any], deadline: float, attempt: Mapping[str, Any] | None = None
    ) -> None:
        name = f"{cluster['namespace']}/{cluster['name']}"
        super().__init__(name, fetch_logs=False, cursor=None, deadline=deadline, on_kill="stop", attempt=attempt)
        self.conn_id = conn_id
        self.cluster = dict(cluster)
        self._connection: RayConnection | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of it; a restarted trigger is made from this alone."""
        return (
            "airfreight.triggers.ray.RayClusterTrigger",
            {
                "conn_id": self.conn_id,
                "cluster": self.cluster,
                "deadline": self.deadline,
                "attempt": None if self.attempt is None else dict(self.attempt),
            },
        )

    async def _find_place(self) -> Any:
        from airfreight.hooks.ray import RayHook
        from airfreight.ray import kubernetes

        self._connection = (await RayHook.acreate(self.conn_id)).connection
        return kubernetes.api(self._connection)

    def _follow(self, *, logs: bool, cursor: str | None) -> Watch:  # noqa: ARG002 - a cluster has no log
        from airfreight.ray import kubernetes

        assert self.deadline is not None
        watch: Watch = self._place.watch(
            self.cluster["namespace"], self.cluster["name"], patience=kubernetes.patience(self.deadline)
        )
        return watch

    async def _wait(self) -> dict[str, Any]:
        from airfreight.ray import kubernetes

        self._place = await self._find_place()
        self._watch = watch = self._follow(logs=False, cursor=None)
        while True:
            try:
                event = await watch.anext()
            except AirfreightError as error:
                # It can't start, which is what one waits for, too.
                return self.words.failure(self.job_id, error)
            kubernetes.say(self.log, self.job_id, event)
            if event["event"] == "ready":
                return {"status": kubernetes.READY, "job_id": ""}

    async def _abandon(self, why: str) -> None:
        if self.cluster.get("is_ours"):
            await _delete(self.conn_id, self._connection, self.cluster, self.log, why)

    def _payload(self, end: dict[str, Any]) -> dict[str, Any]:
        return {**end, "cluster": self.cluster}


async def _delete(
    conn_id: str, connection: RayConnection | None, fields: Mapping[str, Any], log: Any, why: str
) -> None:
    """
    Delete a task's own cluster, beside the event loop.

    :param connection: as it was read before, if it was: a trigger whose task was killed gets no answers any more.
    """
    from airfreight.hooks.ray import RayHook
    from airfreight.ray import kubernetes

    cluster = kubernetes.KubeCluster(**fields)
    log.warning("deleting RayCluster %s: %s", cluster, why)
    if connection is None:
        connection = (await RayHook.acreate(conn_id)).connection
    await asyncio.to_thread(kubernetes.delete, connection, cluster, log, is_killed=True)
