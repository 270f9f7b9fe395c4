"""Operator and decorator of ``astro-provider-ray``: they wait in the triggerer unless they are told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight import decorators
from airfreight.operators import ray as operators

if TYPE_CHECKING:
    from collections.abc import Callable


class SubmitRayJob(operators.SubmitRayJob):
    """
    Airfreight's operator, which takes no worker while it waits.

    :param deferrable: ``None`` does as Airflow's configuration says.
    """

    def __init__(self, *, deferrable: bool | None = True, **kwargs: Any) -> None:
        super().__init__(deferrable=deferrable, **kwargs)


class ray:  # noqa: N801 - its name
    """The decorator's home."""

    @staticmethod
    def task(
        python_callable: Callable[..., Any] | None = None,
        multiple_outputs: bool | None = None,
        config: dict[str, Any] | Callable[..., dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Run a function on Ray.

        :param python_callable: the function.
        :param multiple_outputs: push each item of the returned dict as an XCom of its own.
        :param config: the job's parameters, or a function that gives them.
        :param kwargs: more of them, and the operator's.
        """
        if not isinstance(config, dict) or "deferrable" not in config:
            kwargs.setdefault("deferrable", True)
        return decorators.ray_task(python_callable, multiple_outputs, config, **kwargs)


task = ray.task
