"""Small values in memory, to be embedded where a reference would stand."""

from __future__ import annotations

import pickle
from typing import Any

from airfreight.codec import dagfile
from airfreight.codec.stream import load
from airfreight.codec.pickler import make_pickler
from airfreight.codec.refusal import explain
from airfreight.errors import AirfreightError


class _TooLarge(Exception):
    """More than the limit; ends the pickling where it stands."""


class _Bounded:
    """Collects a stream up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes
        self._chunks: list[bytes] = []

    def write(self, data: Any, /) -> int:
        data = bytes(data)
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        self._chunks.append(data)
        return len(data)

    def keep(self, buffer: pickle.PickleBuffer) -> bool:
        """Keeps a buffer in the stream; a large one ends the pickling before it is copied."""
        if buffer.raw().nbytes > self._left:
            raise _TooLarge
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
    watch = dagfile.Watch(sink) if dagfile.any_loaded() else None
    try:
        make_pickler(watch or sink, sink.keep).dump(value)
        if watch is not None:
            watch.finish()
    except _TooLarge:
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
