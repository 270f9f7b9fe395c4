"""``ray_task`` as ``airflow-provider-ray`` had it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight import decorators
from ray_provider import _environment

if TYPE_CHECKING:
    from collections.abc import Callable


class _Unsaid(str):
    """A default that can be told from the same text in a DAG file."""

    __slots__ = ()


_UNSAID = _Unsaid("ray_default")


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
    :param ray_conn_id: the connection. Where it isn't defined, or isn't said, the task takes the first that is: that of
        the variable ``ray_cluster_conn_id``, ``ray_cluster_connection``, ``ray_default``.
    :param ray_worker_pool: the Airflow pool of the task, which must exist.
    :param eager: run the function where what its value refers to in Ray outlives the call.
    :param checkpoint: keep a copy of the value in a bucket; ``checkpoint_source`` names the connection, or the settings
        do.
    :param multiple_outputs: push each item of the returned dict as an XCom of its own.
    :param kwargs: for the operator, such as ``retries``, ``num_cpus`` or ``runtime_env``.
    """
    _environment.explain()
    if isinstance(python_callable, str):
        ray_conn_id = python_callable
        python_callable = None
    if not {"config", "conn_id"} & kwargs.keys():
        kwargs["config"] = _environment.Connection(None if isinstance(ray_conn_id, _Unsaid) else ray_conn_id)
    return decorators.ray_task(
        python_callable,
        multiple_outputs,
        ray_worker_pool=ray_worker_pool,
        eager=eager or None,
        checkpoint=checkpoint or None,
        **kwargs,
    )
