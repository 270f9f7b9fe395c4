"""Waiting for a Ray job in the triggerer."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airfreight.ray import versions, waiting
from airfreight.ray.pace import pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airfreight._remote import RayClient, Watch
    from airfreight.ray.supervisor import Waiting
    from airfreight.ray.warm import Calls

#: How often the place in the log is kept, at most; less than the ten seconds that may be repeated after a SIGKILL.
_SAVE_SECONDS = 8.0

#: So many lines are logged before other triggers have their turn.
_LINES_AT_ONCE = 50

#: A log that has come without a break for so long is more than a triggerer takes; a worker copies the rest.
_BURST_SECONDS = 20.0

#: What counts as a break.
_IDLE_SECONDS = 0.3


class RayJobTrigger(BaseTrigger):
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
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.conn_id = conn_id
        self.dashboard_url = xcom_dashboard_url
        self.ray_cluster_yaml = ray_cluster_yaml
        self.gpu_device_plugin_yaml = gpu_device_plugin_yaml
        self.poll_interval = poll_interval
        self.fetch_logs = fetch_logs
        self.cursor = cursor
        self.deadline = deadline
        self.kill_action = on_kill
        self.session = session
        self.attempt = attempt
        self.owner = owner
        self._place: RayClient | Calls | None = None
        self._watch: Watch | None = None
        self._fired = False
        self._copied = cursor
        self._kept = cursor
        self._noted = False
        self._doubted = False
        self._burst_began: float | None = None
        self._is_left_to_worker = False
        self._coming: asyncio.Future[dict[str, Any]] | None = None
        self._save_at: float | None = None

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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until the job is over, and say how it ended."""
        try:
            end = await self._wait()
        except asyncio.CancelledError:
            if self._waiting() is None:
                # `dag.test()` calls neither on_kill nor cleanup when somebody presses Ctrl-C.
                await self._stop("interrupted")
            raise
        except Exception as error:
            self.log.warning("cannot wait for Ray job %s any longer", self.job_id, exc_info=True)
            end = waiting.failure(self.job_id, error)
        if self._is_left_to_worker:
            end["cursor"] = self._copied
        if self.owner is not None:
            end["owner"] = self.owner
        if self._waiting() is not None:
            await pace().settle()
        self._fired = True
        yield TriggerEvent(end)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the job, or leave it, as the task wishes: a user has killed the task (Airflow 3.3 and later)."""
        if not self._fired and not await self._is_still_waiting(unless_known=False):
            await self._stop("the task was killed")

    async def cleanup(self) -> None:
        """
        Keep the place in the log and let go of the job, which goes on: the triggerer may only be restarting.

        Up to Airflow 3.2 nobody calls :meth:`on_kill`, so there Airflow is asked whether the task still waits.
        """
        with suppress(Exception):
            await self._leave()
        if not versions.tells_kills() and not self._fired and not await self._is_still_waiting(unless_known=True):
            with suppress(Exception):
                await self._stop("the task does not wait any more")

    async def _wait(self) -> dict[str, Any]:
        self._place = await self._find_place()
        await self._resume()
        self._watch = watch = self._place.watch(
            self.job_id, logs=self.fetch_logs, cursor=self._copied, session=self.session, deadline=self.deadline
        )
        timed_out_at: float | None = None
        self._coming = coming = watch.anext()
        while True:
            idle_since = time.monotonic()
            await asyncio.wait({coming}, timeout=self._pause(timed_out_at))
            if time.monotonic() - idle_since > _IDLE_SECONDS:
                self._burst_began = None
            await self._save_if_due()
            if timed_out_at is not None and time.monotonic() - timed_out_at > waiting.FAREWELL_SECONDS:
                return waiting.timeout(self.job_id)
            if not coming.done():
                continue
            self._coming = None
            event = coming.result()
            if event["event"] == "lines":
                await self._copy(event)
                if self._is_too_much():
                    watch = self._leave_to_worker()
            elif event["event"] != "repeats" or not self._doubted:
                waiting.tell(self.log, self.job_id, event)
            if event["event"] == "deadline":
                if self.kill_action == "leave":
                    return waiting.timeout(self.job_id)
                await self._stop("its time is over")
                timed_out_at = time.monotonic()
            elif (end := waiting.ending(self.job_id, event)) is not None:
                return waiting.timeout(self.job_id) if timed_out_at is not None else end
            self._coming = coming = watch.anext()

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

    def _is_too_much(self) -> bool:
        if self._burst_began is None:
            self._burst_began = time.monotonic()
        return time.monotonic() - self._burst_began > _BURST_SECONDS

    def _leave_to_worker(self) -> Watch:
        """Stop copying the log, but not waiting for the job."""
        assert self._place is not None
        assert self._watch is not None
        self.log.info("The log grows faster than a triggerer can take it: the rest follows when the job is over")
        self._watch.close()
        self._copied = self._watch.cursor
        self._is_left_to_worker = True
        self._watch = self._place.watch(self.job_id, logs=False, session=self.session, deadline=self.deadline)
        return self._watch

    async def _leave(self) -> None:
        """Stop following, and keep where exactly the copy of the log ends."""
        watch, coming = self._watch, self._coming
        if watch is None:
            return
        if coming is not None and coming.done() and not coming.cancelled() and coming.exception() is None:
            # It came while nobody looked any more, and counts as handed out.
            event = coming.result()
            if event["event"] == "lines":
                await self._copy(event)
        elif coming is not None:
            coming.cancel()
        watch.close()
        if not self._is_left_to_worker:
            self._copied = watch.cursor
        await self._save(complete=True)

    async def _resume(self) -> None:
        """Go on where the trigger before this one, of whose memory nothing is left, has stopped copying."""
        from airfreight.ray import supervisor

        me = self._waiting()
        if me is None or not self.fetch_logs:
            return
        saved = await supervisor.saved_cursor(me, self.job_id)
        if saved is None:
            return
        self._copied = self._kept = saved["cursor"]
        if not saved.get("complete"):
            self._doubted = True
            self.log.info("The triggerer was killed: up to ten seconds of what follows may stand above already")

    async def _copy(self, event: Mapping[str, Any]) -> None:
        lines = event["lines"]
        is_real = self._waiting() is not None
        if not self._noted:
            # Who comes after us, if we are killed, shall know that there are lines of ours.
            await self._save(complete=False)
        written = 0
        try:
            for written, line in enumerate(lines, 1):
                self.log.info("%s", line)
                if is_real and pace().logged(line):
                    await pace().settle()
                elif written % _LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except asyncio.CancelledError:
            # The cursor stands behind all of them.
            for line in lines[written:]:
                self.log.info("%s", line)
                pace().logged(line)
            self._copied = event["cursor"]
            raise
        self._copied = event["cursor"]
        if self._save_at is None:
            self._save_at = time.monotonic() + _SAVE_SECONDS

    def _pause(self, timed_out_at: float | None) -> float | None:
        """Seconds after which there is something to do even if nothing happens."""
        moments = [at for at in (self._save_at, timed_out_at and timed_out_at + waiting.FAREWELL_SECONDS) if at]
        return max(min(moments) - time.monotonic(), 0.05) if moments else None

    async def _save_if_due(self) -> None:
        if self._save_at is not None and time.monotonic() >= self._save_at:
            await self._save(complete=False)

    async def _save(self, *, complete: bool) -> None:
        from airfreight.ray import supervisor

        self._save_at = None
        me = self._waiting()
        cursor = self._copied
        if me is None or (self._noted and cursor == self._kept and not complete) or (complete and not self._noted):
            return
        self._noted = True
        # What counts as copied must be in the log, even if the triggerer is killed right after.
        await pace().settle()
        await supervisor.save_cursor(me, self.job_id, cursor, complete=complete)
        self._kept = cursor

    async def _stop(self, why: str) -> None:
        if self.kill_action == "leave":
            self.log.warning("Ray job %s goes on, as on_kill='leave' wishes, although %s", self.job_id, why)
            return
        if self._place is None:
            self._place = await self._find_place()
        self.log.warning("stopping Ray job %s: %s", self.job_id, why)
        # Waits for an answer, beside the event loop.
        await asyncio.to_thread(self._place.stop, self.job_id)

    async def _is_still_waiting(self, *, unless_known: bool) -> bool:
        """
        Whether the task still waits for this job, after its trigger was told to end.

        Airflow 3.3 cancels a trigger that another triggerer takes over as if a user had killed its task, and up to 3.2
        a restart looks like a kill.

        :param unless_known: what to believe when Airflow doesn't say.
        """
        from airfreight.ray import supervisor

        me = self._waiting()
        if me is None:
            return unless_known
        try:
            return await supervisor.state(me) == "deferred"
        except supervisor.Silence:
            return unless_known

    def _waiting(self) -> Waiting | None:
        from airfreight.ray.supervisor import Waiting

        task_instance = self.task_instance
        if task_instance is None or self.trigger_id is None:
            return None
        if self.attempt is not None:
            return Waiting(**self.attempt)
        return Waiting.of(task_instance)
