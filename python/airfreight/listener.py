"""
What happens in a task process around the task itself.

Airflow loads this in every component and calls some of the hooks outside of tasks as well; there they do nothing. A
hook never fails a task.
"""

from __future__ import annotations

from typing import Any

from pluggy import HookimplMarker

hookimpl = HookimplMarker("airflow")


@hookimpl
def on_task_instance_running(task_instance: Any) -> None:
    """Remember the task instance, keep its log readable, and spare it the work that its checkpoint has done."""
    if type(task_instance).__name__ != "RuntimeTaskInstance":
        return
    from airfreight import brevity, checkpoint
    from airfreight.process import here

    here().begin(task_instance)
    brevity.forget_arguments()
    brevity.shorten_log(task_instance.task)
    checkpoint.skip_work(task_instance)


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """Free what the run has in Ray, if this was its last task; forget the task instance."""
    if type(task_instance).__name__ == "RuntimeTaskInstance":
        from airfreight.process import here

        if here().ray_owners:
            from airfreight.ray import plane

            plane.finish(here(), task_instance)
    _end(task_instance)


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Forget the task instance."""
    _end(task_instance)


def _end(task_instance: Any) -> None:
    if type(task_instance).__name__ == "RuntimeTaskInstance":
        from airfreight.process import here

        here().end()


@hookimpl
def before_stopping(component: Any) -> None:
    """At the end of a task process, see whether a deferral was taken, and remove a few expired objects."""
    if type(component).__name__ != "TaskRunnerMarker":
        return
    from airfreight import deferral
    from airfreight.process import here

    deferral.settle()
    here().sweep()
