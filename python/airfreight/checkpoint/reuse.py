"""Tasks that run again and take their former value's checkpoint in place of their work."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airfreight.errors import AirfreightError

if TYPE_CHECKING:
    from airfreight.checkpoint.copies import Reused

log = logging.getLogger("airfreight.xcom")


def skip_work(task_instance: Any) -> None:
    """
    Let a task return its checkpoint where it says ``reuse_checkpoint=True`` and there is one.

    Called when the task begins; never fails it. What can't be reused is made again.
    """
    from airfreight.checkpoint import copies, wish
    from airfreight.origin import Coordinates
    from airfreight.process import here

    task = task_instance.task
    try:
        said = wish.wish_of(task)
        if said is None or not said.reuse:
            return
        process = here()
        plan = wish.plan_of(task, process.settings)
        if plan is None:
            return
        index = -1 if task_instance.map_index is None else task_instance.map_index
        where = Coordinates(task_instance.dag_id, task_instance.run_id, task_instance.task_id, index, "return_value")
        found = copies.reusable(process, plan, where)
        if found is None:
            return
        value = taken(task, found)
    except AirfreightError as error:
        log.warning("cannot reuse a checkpoint, so the task runs: %s", error)
        return
    log.info("task %s does not run: its value is taken from the checkpoint %s", task_instance.task_id, found.where)
    task.execute = lambda context: value  # noqa: ARG005 - Airflow's signature


def taken(task: Any, found: Reused) -> Any:
    """What a task returns that takes its checkpoint: no byte is moved, unless Airflow wants to see the value."""
    if not getattr(task, "multiple_outputs", False):
        return found
    from airfreight import references, rows

    # Airflow pushes the members of such a task's dict itself.
    return rows.read(found.row) if references.is_row(found.row) else found.row
