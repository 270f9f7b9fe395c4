"""
Waiting for a job, in a worker; and the words for what happens meanwhile, which the trigger uses, too.

How it ends is a plain dict, the same from worker and trigger, because a trigger's event goes through Airflow's
database: ``status`` is the platform's or one of those below.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airfreight import errors
from airfreight.apolo.job import JobTimeout, public

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airfreight._remote import ApoloClient, ApoloWatch

#: The deadline has passed.
TIMEOUT = "TIMEOUT"

#: The trigger can't go on.
EXCEPTION = "EXCEPTION"

#: Seconds for which a cancelled job may write its last lines before we look away.
FAREWELL_SECONDS = 10.0

_STEP_SECONDS = 1.0


class Interrupted(Exception):
    """The task was killed while it waited."""


def wait(
    client: ApoloClient,
    watch: ApoloWatch,
    log: Any,
    *,
    until: float | None = None,
    is_killed: Callable[[], bool] = lambda: False,
    cancels: bool = True,
) -> dict[str, Any] | None:
    """
    Follow a job in a worker, its lines going to the task's log.

    :param until: a time of ``time.monotonic()`` at which to return ``None`` and leave the rest to somebody else.
    :param cancels: whether the deadline cancels the job.
    :raises Interrupted: ``is_killed`` says so.
    """
    job_id = watch.submission_id
    timed_out_at: float | None = None
    while not is_killed():
        now = time.monotonic()
        if timed_out_at is not None and now - timed_out_at > FAREWELL_SECONDS:
            return timeout(job_id)
        if until is not None and timed_out_at is None and now >= until:
            return None
        left = _STEP_SECONDS if until is None else min(_STEP_SECONDS, max(until - now, 0.01))
        event = watch.next(left)
        if event is None:
            continue
        if event["event"] == "lines":
            for line in event["lines"]:
                log.info("%s", line)
            continue
        tell(log, job_id, event)
        if event["event"] == "deadline":
            if not cancels:
                return timeout(job_id)
            client.kill(job_id)
            timed_out_at = time.monotonic()
        elif (end := ending(job_id, event)) is not None:
            return timeout(job_id) if timed_out_at is not None else end
    raise Interrupted


def copy_rest(
    client: ApoloClient, end: Mapping[str, Any], log: Any, *, is_killed: Callable[[], bool] = lambda: False
) -> None:
    """Copy what the trigger has left of the log, if it grew faster than a triggerer can take it."""
    cursor = end.get("cursor")
    if cursor is None or end.get("status") == EXCEPTION:
        return
    until = None if "job" in end else time.monotonic() + FAREWELL_SECONDS
    try:
        with client.watch(str(end["job_id"]), cursor=cursor) as watch:
            wait(client, watch, log, until=until, is_killed=is_killed)
    except errors.AirfreightError as error:
        # How the job has ended is known, and no log is worth more.
        log.warning("The log of Apolo job %s is incomplete here: %s", end["job_id"], error)


def tell(log: Any, job_id: str, event: Mapping[str, Any]) -> None:
    """Say in the task's log what has happened, unless it is a line of the job's."""
    match event["event"]:
        case "status":
            history = event["job"].get("history") or {}
            why = ": ".join(str(history[key]) for key in ("reason", "description") if history.get(key))
            log.info("Apolo job %s is %s%s", job_id, event["status"], f" ({why})" if why else "")
        case "unreachable":
            log.warning(
                "Apolo has not answered for %.0f s, the job may go on meanwhile: %s", event["seconds"], event["error"]
            )
        case "deadline":
            log.error("Apolo job %s takes longer than the task allows", job_id)
        case "ended":
            if event.get("log_error"):
                log.warning("The log of Apolo job %s is incomplete here: %s", job_id, event["log_error"])


def ending(job_id: str, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """How it ended, if the event says so."""
    if event["event"] != "ended":
        return None
    job = public(event["job"])
    return {"status": str(job.get("status")), "job_id": job_id, "job": job}


def timeout(job_id: str) -> dict[str, Any]:
    return {
        "status": TIMEOUT,
        "job_id": job_id,
        "message": f"Apolo job {job_id} took longer than the task allows",
    }


def failure(job_id: str, error: Exception) -> dict[str, Any]:
    """The end of a wait that can't go on, which :func:`raise_for` raises again elsewhere."""
    if isinstance(error, errors.AirfreightError):
        message, kind, hint = error.message, error.kind, error.hint
    else:
        message, kind, hint = f"{type(error).__name__}: {error}", None, None
    return {"status": EXCEPTION, "job_id": job_id, "message": message, "kind": kind, "hint": hint}


def raise_for(end: Mapping[str, Any]) -> None:
    """
    Raise what an ending without a job's own status means.

    :raises JobTimeout: the deadline has passed.
    :raises AirfreightError: the trigger couldn't go on.
    """
    status, message = str(end.get("status")), str(end.get("message") or "")
    if status == TIMEOUT:
        raise JobTimeout(message)
    if status == EXCEPTION:
        kinds = {each.kind: each for each in errors.AirfreightError.__subclasses__()}
        kind = kinds.get(str(end.get("kind")), errors.UnavailableError)
        raise kind(message, end.get("hint"))
