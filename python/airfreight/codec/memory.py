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


_DEPTH_MAX = 2
_MEMBERS_MAX = 64


def _is_plainly_larger(value: Any, limit_bytes: int, depth: int = 0) -> bool:
    """
    Whether a look at the value, or at what a small container holds, tells that its encoding passes the limit.

    Every item of a container and every element of a column takes a byte or more. Not knowing is no: then pickling
    finds out, which costs something where a reducer has to pack a column before its length is seen.
    """
    kind = type(value)
    if kind in (str, bytes, bytearray):
        return len(value) > limit_bytes
    if kind in (list, tuple, dict, set, frozenset):
        if len(value) > limit_bytes:
            return True
        if depth == _DEPTH_MAX or len(value) > _MEMBERS_MAX:
            return False
        members = value.values() if kind is dict else value
        return any(_is_plainly_larger(member, limit_bytes, depth + 1) for member in members)
    library = kind.__module__.partition(".")[0]
    if library == "numpy":
        return getattr(value, "nbytes", 0) > limit_bytes
    if library == "pandas":
        size = getattr(value, "size", 0)
        return isinstance(size, int) and size > limit_bytes
    if library in ("pyarrow", "polars"):
        return hasattr(value, "__len__") and len(value) > limit_bytes
    return False


def dumps(value: Any, limit_bytes: int) -> bytes | None:
    """
    Encodes a small value.

    :param value: the value.
    :param limit_bytes: the most that the encoding may take.
    :returns: ``None`` as soon as it would take more; how much more is not found out.
    :raises UnstorableError: the value can't be stored, whatever its size.
    """
    if _is_plainly_larger(value, limit_bytes):
        return None
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
