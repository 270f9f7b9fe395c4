"""``@checkpoint``: what a function's task returns is copied to a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


@overload
def checkpoint(where: F, /) -> F: ...


@overload
def checkpoint(where: bool | str = True, /, *, reuse_checkpoint: bool = False) -> Callable[[F], F]: ...


def checkpoint(where: Any = True, /, *, reuse_checkpoint: bool = False) -> Any:
    """
    Say of a function that what its task returns is copied to a bucket, before the task is successful.

    Stands below ``@task``::

        @task
        @checkpoint("s3://models/checkpoints", reuse_checkpoint=True)
        def train(): ...

    :param where: a URL (``s3://``, ``gs://``, ``az://``, ``file://``), the id of an Airflow connection, or
        ``connection id@URL``; ``True``: as ``[airfreight] checkpoint`` says; ``False``: nowhere, whatever that says;
        ``"async"``, or ``"async:"`` before a place: uploaded by the host's agent, while tasks go on.
    :param reuse_checkpoint: when the task instance runs again and its checkpoint is still there, take it instead.
    """
    from airfreight.checkpoint import wish

    if callable(where):
        setattr(where, wish.ATTRIBUTE, wish.Wish(True))
        return where
    said = wish.parse(where, reuse_checkpoint)

    def mark(function: F) -> F:
        setattr(function, wish.ATTRIBUTE, said)
        return function

    return mark
