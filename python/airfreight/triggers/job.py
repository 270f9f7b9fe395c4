"""Waiting for a job in the triggerer, whatever it runs on: what Ray's and Apolo's triggers share."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airfreight.ray import versions
from airfreight.ray.pace import pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from airfreight._remote import Watch
    from airfreight.ray.supervisor import Waiting

#: How often the place in the log is kept, at most; less than the ten seconds that may be repeated after a SIGKILL.
_SAVE_SECONDS = 8.0

#: So many lines are logged before other triggers have their turn.
_LINES_AT_ONCE = 50

#: A log that has come without a break for so long is more than a triggerer takes; a worker copies the rest.
_BURST_SECONDS = 20.0

#: What counts as a break.
_IDLE_SECONDS = 0.3


class Words(Protocol):
    """How a platform's events are told, and which of them end the wait: a module such as ``airfreight.ray.waiting``."""

    #: Seconds for which a stopped job may write its last lines before we look away.
    FAREWELL_SECONDS: float

    def tell(self, log: Any, job_id: str, event: Mapping[str, Any], /) -> None:
        """Say in the task's log what has happened, unless it is a line of the job's."""

    def ending(self, job_id: str, event: Mapping[str, Any], /) -> dict[str, Any] | None:
        """How it ended, if the event says so."""

    def timeout(self, job_id: str, /) -> dict[str, Any]:
        """The end of a job whose time is over."""

    def failure(self, job_id: str, error: Exception, /) -> dict[str, Any]:
        """The end of a wait that can't go on."""


class JobTrigger(BaseTrigger):
    """
    Waits for a job, copies its log into the task's log, and fires once when the job is over.

    :param job_id: the job's id.
    :param fetch_logs: whether to copy the log.
    :param cursor: how far the log has been copied already.
    :param deadline: Unix time at which the job has taken too long and is stopped.
    :param on_kill: ``stop`` or ``leave``: what becomes of the job when a user kills the task or its time is over.
    :param attempt: the waiting task instance, where the trigger can't learn that from Airflow.
    """

    #: What the job runs on, in messages.
    platform: ClassVar[str]
    words: ClassVar[Words]
    #: The XCom that says how much of the log stands in the task's log.
    cursor_key: ClassVar[str]

    def __init__(
        self,
        job_id: str,
        *,
        fetch_logs: bool,
        cursor: str | None,
        deadline: float | None,
        on_kill: str,
        attempt: Mapping[str, Any] | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.fetch_logs = fetch_logs
        self.cursor = cursor
        self.deadline = deadline
        self.kill_action = on_kill
        self.attempt = attempt
        self._place: Any = None
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

    @abstractmethod
    async def _find_place(self) -> Any:
        """Where the work runs: what has a method ``stop(job_id)``."""

    @abstractmethod
    def _follow(self, *, logs: bool, cursor: str | None) -> Watch:
        """Follow the job there."""

    def _payload(self, end: dict[str, Any]) -> dict[str, Any]:
        """What the event says."""
        return end

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until the job is over, and say how it ended."""
        try:
            end = await self._wait()
        except asyncio.CancelledError:
            if self._waiting() is None:
                # `dag.test()` calls neither on_kill nor cleanup when somebody presses Ctrl-C.
                await self._abandon("interrupted")
            raise
        except Exception as error:
            self.log.warning("cannot wait for %s job %s any longer", self.platform, self.job_id, exc_info=True)
            end = self.words.failure(self.job_id, error)
        if self._is_left_to_worker:
            end["cursor"] = self._copied
        if self._waiting() is not None:
            await pace().settle()
        self._fired = True
        yield TriggerEvent(self._payload(end))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the job, or leave it, as the task wishes: a user has killed the task (Airflow 3.3 and later)."""
        if not self._fired and not await self._is_still_waiting(unless_known=False):
            await self._abandon("the task was killed")

    async def cleanup(self) -> None:
        """
        Keep the place in the log and let go of the job, which goes on: the triggerer may only be restarting.

        Up to Airflow 3.2 nobody calls :meth:`on_kill`, so there Airflow is asked whether the task still waits.
        """
        with suppress(Exception):
            await self._leave()
        if not versions.tells_kills() and not self._fired and not await self._is_still_waiting(unless_known=True):
            with suppress(Exception):
                await self._abandon("the task does not wait any more")

    async def _abandon(self, why: str) -> None:
        """See to what is left behind when nobody waits for it any more."""
        await self._stop(why)

    async def _wait(self) -> dict[str, Any]:
        self._place = await self._find_place()
        await self._resume()
        self._watch = watch = self._follow(logs=self.fetch_logs, cursor=self._copied)
        timed_out_at: float | None = None
        self._coming = coming = watch.anext()
        while True:
            idle_since = time.monotonic()
            await asyncio.wait({coming}, timeout=self._pause(timed_out_at))
            if time.monotonic() - idle_since > _IDLE_SECONDS:
                self._burst_began = None
            await self._save_if_due()
            if timed_out_at is not None and time.monotonic() - timed_out_at > self.words.FAREWELL_SECONDS:
                return self.words.timeout(self.job_id)
            if not coming.done():
                continue
            self._coming = None
            event = coming.result()
            if event["event"] == "lines":
                await self._copy(event)
                if self._is_too_much():
                    watch = self._leave_to_worker()
            elif event["event"] != "repeats" or not self._doubted:
                self.words.tell(self.log, self.job_id, event)
            if event["event"] == "deadline":
                if self.kill_action == "leave":
                    return self.words.timeout(self.job_id)
                await self._stop("its time is over")
                timed_out_at = time.monotonic()
            elif (end := self.words.ending(self.job_id, event)) is not None:
                return self.words.timeout(self.job_id) if timed_out_at is not None else end
            self._coming = coming = watch.anext()

    def _is_too_much(self) -> bool:
        if self._burst_began is None:
            self._burst_began = time.monotonic()
        return time.monotonic() - self._burst_began > _BURST_SECONDS

    def _leave_to_worker(self) -> Watch:
        """Stop copying the log, but not waiting for the job."""
        assert self._watch is not None
        self.log.info("The log grows faster than a triggerer can take it: the rest follows when the job is over")
        self._watch.close()
        self._copied = self._watch.cursor
        self._is_left_to_worker = True
        self._watch = self._follow(logs=False, cursor=None)
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
        saved = await supervisor.saved_cursor(me, self.job_id, self.cursor_key)
        if saved is None:
            return
        self._copied = self._kept = saved["cursor"]
        if not saved.get("complete"):
            self._doubted = True
            self.log.info("The triggerer was killed: up to ten seconds of what follows may stand above already")

    async def _copy(self, event: Mapping[str, Any]) -> None:
        lines = event["lines"]
        is_real = self._waiting() is not None
        written = 0
        try:
            if not self._noted:
                # Who comes after us, if we are killed, shall know that there are lines of ours.
                await self._save(complete=False)
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
        moments = [at for at in (self._save_at, timed_out_at and timed_out_at + self.words.FAREWELL_SECONDS) if at]
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
        await supervisor.save_cursor(me, self.job_id, cursor, self.cursor_key, complete=complete)
        self._kept = cursor

    async def _stop(self, why: str) -> None:
        if self.kill_action == "leave":
            self.log.warning(
                "%s job %s goes on, as on_kill='leave' wishes, although %s", self.platform, self.job_id, why
            )
            return
        if self._place is None:
            self._place = await self._find_place()
        self.log.warning("stopping %s job %s: %s", self.platform, self.job_id, why)
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
