"""Small values in memory, to be embedded where a reference would stand."""

from __future__ import annotations

from typing import Any

from airfreight.codec.pickler import dump
from airfreight.codec.refusal import explain
from airfreight.codec.stream import load
from airfreight.errors import AirfreightError


class _LimitError(Exception):
    """More than the limit; ends the pickling where it stands."""


class _Bounded:
    """Collects a stream up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._chunks: list[bytes] = []

    def write(self, data: Any, /) -> int:
        length = len(data) if type(data) is bytes else memoryview(data).nbytes
        self._left -= length
        if self._left < 0:
            raise _LimitError
        self._chunks.append(bytes(data))
        return length

    def add_buffer(self, buffer: Any, /) -> bool:
        """Keeps everything in the stream; a large buffer ends the pickling before it is copied."""
        if memoryview(buffer).nbytes > self._left:
            raise _LimitError
        return True

    def getvalue(self) -> bytes:
        return b"".join(self._chunks)


def dumps(value: Any, limit_bytes: int) -> bytes | None:
    """
    Encodes a small value.

    :param value: the value.
    :param limit_bytes: the most that the encoding may take.
    :returns: ``None`` as soon as it would take more; how much more is not found out.
    :raises UnstorableError: the value can't be stored, whatever its size.
    """
    sink = _Bounded(limit_bytes)
    try:
        dump(value, sink)
    except _LimitError:
        return None
    except (AirfreightError, MemoryError):
        raise
    except Exception as error:
        raise explain(value, error) from error
    return sink.getvalue()


def loads(data: bytes) -> Any:
    """
    Decodes what :func:`dumps` made.

    Runs what the pickle says: only for bytes that were authenticated.

    :raises InvalidError: a class of the value can't be imported here.
    """
    return load(data, ())
