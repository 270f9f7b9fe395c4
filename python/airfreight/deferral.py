"""
Deferring without a moment in which nobody answers for what was started.

A task may be marked or cleared while it defers. Airflow then refuses the deferral and starts no trigger, and nobody
calls ``on_kill``: its supervisor, which would have, finds that the task has just ended.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

log = logging.getLogger(__name__)

#: Where a task can be that has deferred a moment ago, if Airflow has taken it.
_TAKEN = frozenset({"deferred", "scheduled", "queued", "running", "up_for_retry", "up_for_reschedule"})


class Deferral(NamedTuple):
    """A deferral that Airflow is about to be told of."""

    operator: Any
    task_instance: Any


def defer(operator: Any, task_instance: Any, trigger: BaseTrigger) -> NoReturn:
    """
    Go on in ``execute_complete`` when the trigger fires; if Airflow refuses, call the operator's ``on_kill``.

    :raises AirflowFailException: the task is no longer Airflow's to defer, which a look tells before Airflow 3.2.
    """
    from airfreight.process import here
    from airfreight.ray import versions

    deferral = Deferral(operator, task_instance)
    if versions.ends_refused_tasks():
        here().deferral = deferral
    elif (state := _state(deferral)) is not None:
        operator.on_kill()
        raise versions.exceptions().AirflowFailException(f"the task was marked or cleared meanwhile: it is {state}")
    operator.defer(trigger=trigger, method_name="execute_complete")
    raise AssertionError("Airflow's defer has returned")


def settle() -> None:
    """At the end of a task's process, see to what a refused deferral has left alone; never fails a task."""
    from airfreight.process import here

    deferral, here().deferral = here().deferral, None
    if deferral is None or (state := _state(deferral)) is None:
        return
    log.warning("Airflow has not taken the deferral: the task is %s", state)
    try:
        deferral.operator.on_kill()
    except Exception:
        log.exception("could not end what the task has started")


def _state(deferral: Deferral) -> str | None:
    """The task's state if Airflow has not taken the deferral, or won't."""
    instance = deferral.task_instance
    try:
        states = instance.get_task_states(
            dag_id=instance.dag_id,
            map_index=instance.map_index,
            task_ids=[instance.task_id],
            run_ids=[instance.run_id],
        )
    except Exception:
        log.warning("could not ask Airflow whether it has taken the deferral", exc_info=True)
        return None
    found = [str(state) for state in states.get(instance.run_id, {}).values()]
    return None if not found or found[0] in _TAKEN else found[0]
