"""
What a trigger asks of Airflow beside its connection, and where it keeps its place in a job's log.

A trigger runs in a process without access to Airflow's database; the triggerer's supervisor answers its questions. None
of them is worth failing a task for: who can't be asked gives no answer.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

log = logging.getLogger(__name__)

#: How many questions a stopping triggerer has under way.
_asking = 0

#: The XCom that says how much of a job's log stands in the task's log.
CURSOR_KEY = "ray_log_cursor"

#: The first question to a triggerer that has just been started waits until Airflow has built its API, which takes ten
#: seconds, on a busy machine more.
_ANSWER_SECONDS = 60.0

#: Airflow gives a trigger half a minute to stop its job when its task is killed.
_STATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """The task instance that waits, for questions about it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int

    @classmethod
    def of(cls, task_instance: Any) -> Waiting:
        index = task_instance.map_index
        return cls(
            task_instance.dag_id,
            task_instance.run_id,
            task_instance.task_id,
            -1 if index is None else index,
            task_instance.try_number,
        )

    def coordinates(self) -> dict[str, Any]:
        return {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
        }


class Silence(Exception):
    """There was no answer."""


async def state(waiting: Waiting) -> str | None:
    """
    The state of a task instance; ``None`` when it has been cleared.

    :raises Silence: Airflow doesn't say.
    """
    from airflow.sdk.execution_time.comms import GetTaskStates

    mapped = waiting.map_index >= 0
    answer = await _ask(
        GetTaskStates(
            dag_id=waiting.dag_id,
            task_ids=[waiting.task_id],
            run_ids=[waiting.run_id],
            map_index=waiting.map_index if mapped else None,
        ),
        _STATE_SECONDS,
    )
    states = getattr(answer, "task_states", {}).get(waiting.run_id, {})
    name = f"{waiting.task_id}_{waiting.map_index}" if mapped else waiting.task_id
    if name not in states:
        raise Silence
    found = states[name]
    return None if found is None else str(getattr(found, "value", found))


def place(waiting: Waiting, job_id: str, cursor: str | None, *, complete: bool) -> dict[str, Any]:
    """How far the log of an attempt's job has been copied, as the XCom has it."""
    return {"job": job_id, "try": waiting.try_number, "cursor": cursor, "complete": complete}


async def saved_cursor(waiting: Waiting, job_id: str, key: str = CURSOR_KEY) -> Mapping[str, Any] | None:
    """What :func:`save_cursor` has kept for this attempt and job."""
    from airflow.sdk.execution_time.comms import GetXCom

    try:
        answer = await _ask(GetXCom(key=key, **waiting.coordinates()))
    except Silence:
        return None
    value = getattr(answer, "value", None)
    if not isinstance(value, dict) or (value.get("job"), value.get("try")) != (job_id, waiting.try_number):
        return None
    return value


async def save_cursor(
    waiting: Waiting, job_id: str, cursor: str | None, key: str = CURSOR_KEY, *, complete: bool
) -> bool:
    """
    Keep how far the log has been copied.

    :param key: the XCom that keeps it.
    :param complete: whether nothing was copied since; else the lines of the last seconds are in the log already.
    :returns: whether Airflow has taken it.
    """
    from airflow.sdk.execution_time.comms import SetXCom

    value = place(waiting, job_id, cursor, complete=complete)
    try:
        await _ask(SetXCom(key=key, value=value, **waiting.coordinates()))
    except Silence:
        return False
    return True


async def ping() -> None:
    """
    Return when the supervisor has seen this.

    :raises Silence: it doesn't answer.
    """
    from airfreight.ray import versions

    await _ask(versions.idle_request())


async def mask(secrets: Iterable[str]) -> None:
    """Keep secrets out of the triggerer's logs."""
    from airflow.sdk._shared.secrets_masker import _secrets_masker
    from airflow.sdk.execution_time.comms import MaskSecret

    for secret in secrets:
        _secrets_masker().add_mask(secret)
        with suppress(Silence):
            await _ask(MaskSecret(value=secret))


async def _ask(message: Any, seconds: float = _ANSWER_SECONDS) -> Any:
    from airfreight.ray import versions

    comms = versions.supervisor()
    if comms is None:
        raise Silence
    async with _answers(comms):
        # Never cancelled: up to Airflow 3.2 the answer that nobody takes any more would be taken for the next one's.
        request = asyncio.ensure_future(comms.asend(message))
        request.add_done_callback(_forget)
        done, _ = await asyncio.wait({request}, timeout=seconds)
    if not done:
        raise Silence
    try:
        answer = request.result()
    except (Exception, asyncio.CancelledError) as error:
        log.debug("Airflow did not answer %s", type(message).__name__, exc_info=True)
        raise Silence from error
    if type(answer).__name__ == "ErrorResponse":
        raise Silence
    return answer


@asynccontextmanager
async def _answers(comms: Any) -> AsyncIterator[None]:
    """
    Somebody who reads the supervisor's answers.

    From Airflow 3.3 on that is a task which ends before the triggers do when the triggerer stops. Then what they still
    ask is carried out, but only as long as this process is there to be answered.
    """
    global _asking  # noqa: PLW0603 - one per process, as the connection to the supervisor is
    reader = getattr(comms, "_reader_task", None)
    if reader is None or (not reader.done() and not _asking):
        yield
        return
    if reader.done():
        await comms.start_reader()
    _asking += 1
    try:
        yield
    finally:
        _asking -= 1
        if not _asking:
            comms._reader_task.cancel()  # noqa: SLF001 - the one that was started here
            await asyncio.wait({comms._reader_task})  # noqa: SLF001


def _forget(request: asyncio.Future[Any]) -> None:
    """Take note of how it ended, so that asyncio doesn't complain that nobody did."""
    if not request.cancelled():
        request.exception()
