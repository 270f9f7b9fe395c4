"""Waiting for KubeRay's ``RayJob`` and ``RayService`` in the triggerer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from airfreight.errors import AirfreightError
from airfreight.ray import waiting
from airfreight.ray.supervisor import CURSOR_KEY
from airfreight.triggers.job import JobTrigger, Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airfreight._remote import Watch
    from airfreight.ray.connection import RayConnection


class KubeRayTrigger(JobTrigger):
    """
    Waits until a ``RayJob`` is over or a ``RayService`` serves, a line in the task's log for each change; fires once.

    :param conn_id: the Airflow connection.
    :param resource: a :class:`~airfreight.ray.kuberay.Resource`'s fields.
    :param deadline: Unix time at which to give it up; ``None``: never.
    :param on_kill: ``delete``, ``suspend`` or ``leave``: what becomes of it when a user kills the task.
    :param attempt: the waiting task instance, where the trigger can't learn that from Airflow.
    """

    platform: ClassVar[str] = "Kubernetes"
    words: ClassVar[Words] = waiting
    cursor_key: ClassVar[str] = CURSOR_KEY

    def __init__(
        self,
        conn_id: str,
        resource: Mapping[str, Any],
        deadline: float | None,
        on_kill: str = "delete",
        attempt: Mapping[str, Any] | None = None,
    ) -> None:
        name = f"{resource['namespace']}/{resource['name']}"
        super().__init__(name, fetch_logs=False, cursor=None, deadline=deadline, on_kill=on_kill, attempt=attempt)
        self.conn_id = conn_id
        self.resource = dict(resource)
        self._connection: RayConnection | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow keeps of it; a restarted trigger is made from this alone."""
        return (
            "airfreight.triggers.kuberay.KubeRayTrigger",
            {
                "conn_id": self.conn_id,
                "resource": self.resource,
                "deadline": self.deadline,
                "on_kill": self.kill_action,
                "attempt": None if self.attempt is None else dict(self.attempt),
            },
        )

    async def _find_place(self) -> Any:
        from airfreight.hooks.ray import RayHook
        from airfreight.ray import kubernetes

        self._connection = (await RayHook.acreate(self.conn_id)).connection
        return kubernetes.api(self._connection)

    def _follow(self, *, logs: bool, cursor: str | None) -> Watch:  # noqa: ARG002 - the worker copies the log
        from airfreight.ray import kuberay

        watch: Watch = kuberay.follow(self._place, kuberay.Resource(**self.resource), self.deadline)
        return watch

    async def _wait(self) -> dict[str, Any]:
        from airfreight.ray import kuberay

        resource = kuberay.Resource(**self.resource)
        self._place = await self._find_place()
        self._watch = watch = self._follow(logs=False, cursor=None)
        while True:
            try:
                event = await watch.anext()
            except AirfreightError as error:
                # It can't start, which is what one waits for, too.
                return kuberay.failure(resource, error, self.deadline)
            if (end := kuberay.tell_of(self.log, resource, event)) is not None:
                return end

    async def _abandon(self, why: str) -> None:
        from airfreight.hooks.ray import RayHook
        from airfreight.ray import kuberay

        resource = kuberay.Resource(**self.resource)
        if not resource.is_ours:
            return
        self.log.warning("%s is not waited for any longer: %s", resource, why)
        # As it was read before, if it was: a trigger whose task was killed gets no answers any more.
        connection = self._connection or (await RayHook.acreate(self.conn_id)).connection
        await asyncio.to_thread(kuberay.abandon, connection, resource, self.kill_action, self.log)

    def _payload(self, end: dict[str, Any]) -> dict[str, Any]:
        return {**end, "resource": self.resource}
