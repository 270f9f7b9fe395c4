"""
Ray, for a function that runs in a process which belongs to the cluster already.

Many functions begin with ``ray.init()`` and some end with ``ray.shutdown()``, as the first line of every program for
Ray does. In a worker of Ray's the one raises, and the other would take the worker from the cluster.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING:
    from collections.abc import Callable


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Meanwhile ``ray.init()`` gives the cluster that this process belongs to, and ``ray.shutdown()`` does nothing."""
    import ray

    init, shutdown = ray.init, ray.shutdown
    ray.init, ray.shutdown = _again(init), _stay
    try:
        yield
    finally:
        ray.init, ray.shutdown = init, shutdown


def _again(init: Callable[..., Any]) -> Callable[..., Any]:
    from functools import wraps

    @wraps(init)
    def again(*args: Any, **kwargs: Any) -> Any:
        return init(*args, **{**kwargs, "ignore_reinit_error": True})

    return again


def _stay(*args: Any, **kwargs: Any) -> None:
    """What follows, such as the value's way into the cluster, needs the connection."""
