"""``ray_task`` as ``airflow-provider-ray`` had it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight import decorators
from ray_provider import _environment

if TYPE_CHECKING:
    from collections.abc import Callable

#: What the old signature had and nobody meant: the old decorator connected to what the environment said.
_UNSAID = "ray_default"


def ray_task(
    python_callable: Callable[..., Any] | str | None = None,
    ray_conn_id: str = _UNSAID,
    ray_worker_pool: str = "ray_worker_pool",
    eager: bool = False,
    checkpoint: bool = False,
    multiple_outputs: bool | None = None,
    **kwargs: Any,
) -> Any:
    """
    Run a function on Ray, with the parameters and defaults of ``airflow-provider-ray``.

    :param python_callable: the function; a text is taken for the connection, as in the old package's own example.
    :param ray_conn_id: the connection. The variable ``ray_cluster_conn_id`` names that of tasks that say nothing, and
        ``ray_cluster_connection`` is what they get otherwise, as before.
    :param ray_worker_pool: the Airflow pool of the task, which must exist.
    :param eager: no effect: a value outlives the process that made it.
    :param checkpoint: no effect yet: a task that runs again reads what the tasks above it returned.
    :param multiple_outputs: push each item of the returned dict as an XCom of its own.
    :param kwargs: for the operator, such as ``retries``, ``num_cpus`` or ``runtime_env``.
    """
    _environment.explain()
    if isinstance(python_callable, str):
        ray_conn_id = python_callable
        python_callable = None
    if ray_conn_id == _UNSAID:
        ray_conn_id = _environment.connection()
    return decorators.ray_task(
        python_callable,
        multiple_outputs,
        ray_conn_id=ray_conn_id,
        ray_worker_pool=ray_worker_pool,
        eager=eager,
        checkpoint=checkpoint,
        **kwargs,
    )
