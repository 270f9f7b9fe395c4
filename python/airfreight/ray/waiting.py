"""
Waiting for a job, in a worker; and the words for what happens meanwhile, which the trigger uses, too.

How it ends is a plain dict, the same from worker and trigger, because a trigger's event goes through Airflow's
database: ``status`` is Ray's or one of those below.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airfreight import errors
from airfreight.ray.job import RayJobError, RayJobLostError, RayJobTimeoutError, public

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airfreight._remote import RayClient, Watch
    from airfreight.ray.warm import Calls

#: The deadline has passed.
TIMEOUT = "TIMEOUT"

#: Ray doesn't know the job any more.
GONE = "GONE"

#: The trigger can't go on; the name that astronomer's trigger gave it.
EXCEPTION = "EXCEPTION"

#: Seconds for which a stopped job may write its last lines before we look away.
FAREWELL_SECONDS = 10.0

_STEP_SECONDS = 1.0


class Interrupted(Exception):
    """The task was killed while it waited."""


def wait(
    client: RayClient | Calls,
    watch: Watch,
    log: Any,
    *,
    until: float | None = None,
    is_killed: Callable[[], bool] = lambda: False,
    stops: bool = True,
) -> dict[str, Any] | None:
    """
    Follow a job in a worker, its lines going to the task's log.

    :param until: a time of ``time.monotonic()`` at which to return ``None`` and leave the rest to somebody else.
    :param stops: whether the deadline stops the job.
    :raises Interrupted: ``is_killed`` says so.
    """
    timed_out_at: float | None = None
    while not is_killed():
        now = time.monotonic()
        if timed_out_at is not None and now - timed_out_at > FAREWELL_SECONDS:
            return timeout(watch.submission_id)
        if until is not None and timed_out_at is None and now >= until:
            return None
        left = _STEP_SECONDS if until is None else min(_STEP_SECONDS, max(until - now, 0.01))
        event = watch.next(left)
        if event is None:
            continue
        if event["event"] == "lines":
            for line in event["lines"]:
                log.info("%s", line)
        elif event["event"] == "deadline":
            tell(log, watch.submission_id, event)
            if not stops:
                return timeout(watch.submission_id)
            client.stop(watch.submission_id)
            timed_out_at = time.monotonic()
        elif (end := ending(watch.submission_id, event)) is not None:
            tell(log, watch.submission_id, event)
            return timeout(watch.submission_id) if timed_out_at is not None else end
        else:
            tell(log, watch.submission_id, event)
    raise Interrupted


def copy_rest(
    client: RayClient | Calls, end: Mapping[str, Any], log: Any, *, is_killed: Callable[[], bool] = lambda: False
) -> None:
    """Copy what the trigger has left of the log, if it grew faster than a triggerer can take it."""
    cursor = end.get("cursor")
    if cursor is None or end.get("status") in (GONE, EXCEPTION):
        return
    # A job whose time is over may not be over itself.
    until = None if "job" in end else time.monotonic() + FAREWELL_SECONDS
    with client.watch(str(end["job_id"]), cursor=cursor) as watch:
        wait(client, watch, log, until=until, is_killed=is_killed)


def tell(log: Any, submission_id: str, event: Mapping[str, Any]) -> None:
    """Say in the task's log what has happened, unless it is a line of the job's."""
    match event["event"]:
        case "status":
            log.info("Ray job %s is %s", submission_id, event["status"])
        case "unreachable":
            log.warning(
                "Ray has not answered for %.0f s, the job may go on meanwhile: %s", event["seconds"], event["error"]
            )
        case "repeats":
            log.info("The lines from here on may stand above already: %s", event.get("reason", "it was read again"))
        case "deadline":
            log.error("Ray job %s takes longer than the task allows", submission_id)
        case "ended":
            log.info("Ray job %s is over: %s", submission_id, event["job"].get("status"))
            if event.get("log_error"):
                log.warning("The log of Ray job %s is incomplete here: %s", submission_id, event["log_error"])
        case "gone":
            log.error("Ray does not know job %s any more", submission_id)


def ending(submission_id: str, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """How it ended, if the event says so."""
    if event["event"] == "ended":
        job = public(event["job"])
        status = str(job.get("status"))
        # `message` and `job_id` as astronomer's trigger has them.
        message = f"Job {submission_id} completed with status {status}"
        return {"status": status, "job_id": submission_id, "message": message, "job": job}
    if event["event"] == "gone":
        replaced = bool(event.get("replaced"))
        return {
            "status": GONE,
            "job_id": submission_id,
            "message": _gone(submission_id, replaced),
            "replaced": replaced,
        }
    return None


def timeout(submission_id: str) -> dict[str, Any]:
    return {
        "status": TIMEOUT,
        "job_id": submission_id,
        "message": f"Ray job {submission_id} took longer than the task allows",
    }


def failure(submission_id: str, error: Exception) -> dict[str, Any]:
    """The end of a wait that can't go on, which :func:`raise_for` raises again elsewhere."""
    if isinstance(error, errors.AirfreightError):
        message, kind, hint = error.message, error.kind, error.hint
        cause = error.__cause__
        while cause is not None:
            message = f"{message}: {cause}"
            cause = cause.__cause__
    else:
        message, kind, hint = f"{type(error).__name__}: {error}", None, None
    return {"status": EXCEPTION, "job_id": submission_id, "message": message, "kind": kind, "hint": hint}


def raise_for(end: Mapping[str, Any]) -> None:
    """
    Raise what an ending without a job's own status means.

    :raises RayJobTimeoutError: the deadline has passed.
    :raises RayJobLostError: Ray doesn't know the job any more.
    :raises AirfreightError: the trigger couldn't go on.
    """
    status, job_id, message = str(end["status"]), str(end.get("job_id") or ""), str(end.get("message") or "")
    if status == TIMEOUT:
        raise RayJobTimeoutError(message, job_id)
    if status == GONE:
        raise RayJobLostError(message, job_id)
    if status == EXCEPTION:
        kinds = {each.kind: each for each in errors.AirfreightError.__subclasses__()}
        kind = kinds.get(str(end.get("kind")))
        if kind is None:
            raise RayJobError(message, job_id)
        raise kind(message, end.get("hint"))


def _gone(submission_id: str, replaced: bool) -> str:
    if replaced:
        return (
            f"Ray job {submission_id} is lost: another cluster answers at this address now; a retry of the task "
            "submits it anew"
        )
    return (
        f"Ray job {submission_id} is lost: the cluster does not know it any more; a retry of the task submits it anew"
    )
