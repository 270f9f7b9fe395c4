"""Reading a pickle stream, and what to say when that fails."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

from airfreight.codec import dagfile
from airfreight.errors import AirfreightError, InvalidError


def load(stream: Any, buffers: Iterable[Any]) -> Any:
    """
    Unpickles a stream.

    :param stream: the stream, as bytes or a view of them.
    :param buffers: its out-of-band buffers.
    :raises InvalidError: something that the value is made of isn't here.
    """
    return attempt(lambda: pickle.loads(stream, buffers=buffers), stream)


def attempt(read: Callable[[], Any], stream: Any) -> Any:
    """
    Reads, and reads once more if what was missing is a DAG file that the stream tells of.

    :param read: unpickles.
    :param stream: what it reads from.
    :raises InvalidError: something that the value is made of isn't here.
    """
    try:
        return read()
    except Exception as error:
        return recover(error, read, stream)


def recover(error: Exception, read: Callable[[], Any], stream: Any) -> Any:
    """The second half of :func:`attempt`, for who makes the first one itself."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and dagfile.import_noted(memoryview(stream), missing):
        try:
            return read()
        except Exception as again:
            error = again
    if isinstance(error, (AirfreightError, MemoryError)):
        raise error
    raise _explained(error) from error


def _explained(error: Exception) -> InvalidError:
    if isinstance(error, ModuleNotFoundError):
        return InvalidError(
            f"cannot read the value: it holds something of the module {error.name}, which is not installed here",
            "install it in this task's environment, or return plain data from the task that made the value",
        )
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return InvalidError(
            f"cannot read the value: {error}",
            "it was defined in a script that ran by itself; define it in a module that both tasks can import",
        )
    if isinstance(error, (AttributeError, ImportError)):
        return InvalidError(
            f"cannot read the value: {error}",
            "the task that made it had other code, or another version of a library; make both the same and rerun it",
        )
    return InvalidError(
        f"cannot rebuild the value: {type(error).__name__}: {error}",
        "compare the library versions of the task that made the value with this one's",
    )
