"""
Large ``bytes``, ``bytearray`` and ``str``, out of band.

The pickler offers no reducer for these three: only its persistent ids see them, at the price of a Python call for every
object. So a bounded look at the value decides whether it is worth it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from airfreight.codec import pickler
from airfreight.codec.stream import attempt

# Before a pickle with persistent ids.
_MAGIC = b"AFLARGE1"

# Shorter ones are left in the stream: what they would gain is less than the look costs.
_BYTES_MIN = 256 * 1024

# How many values, in the outermost two containers, are looked at.
_LOOKS_MAX = 256

_TYPES = frozenset({bytes, bytearray, str})


def is_within(value: Any, looks: int = _LOOKS_MAX, depth: int = 2) -> bool:
    """Whether a value is one of these, or a container that plainly holds some."""
    cls = type(value)
    if cls in _TYPES:
        return len(value) >= _BYTES_MIN
    if cls not in _CONTAINERS or depth == 0 or len(value) > looks:
        return False
    parts = value.values() if cls is dict else value
    return any(is_within(part, 16, depth - 1) for part in parts)


_CONTAINERS = frozenset({list, tuple, dict})


class _Pickler(pickle.Pickler):
    """Takes the large ones out of the stream; each once, however often it occurs."""

    _numbers: dict[int, int]

    def persistent_id(self, obj: Any) -> Any:
        if type(obj) not in _TYPES or len(obj) < _BYTES_MIN:
            return None
        number = self._numbers.get(id(obj))
        if number is not None:
            return number
        self._numbers[id(obj)] = len(self._numbers)
        if type(obj) is str:
            return "str", pickle.PickleBuffer(obj.encode("utf-8", "surrogatepass"))
        return type(obj).__name__, pickle.PickleBuffer(obj)


class _Unpickler(pickle.Unpickler):
    _found: list[Any]

    def persistent_load(self, pid: Any) -> Any:
        if type(pid) is int:
            return self._found[pid]
        kind, buffer = pid
        found: Any
        if kind == "str":
            found = str(buffer, "utf-8", "surrogatepass")
        else:
            found = bytes(buffer) if kind == "bytes" else bytearray(buffer)
        self._found.append(found)
        return found


def dump(sink: pickler.Sink, buffer_callback: Callable[[Any], Any], value: Any) -> None:
    """Pickles a value into a sink, its large bytes and strings into buffers."""
    sink.write(_MAGIC)
    made = pickler.prepare(_Pickler(sink, pickler.PROTOCOL, buffer_callback=buffer_callback))
    made._numbers = {}  # type: ignore[attr-defined]
    made.dump(value)


def is_large(stream: memoryview) -> bool:
    return bytes(stream[:8]) == _MAGIC


def load(stream: memoryview, buffers: Any) -> Any:
    """Reads what :func:`dump` wrote."""

    def read() -> Any:
        unpickler = _Unpickler(io.BytesIO(stream[8:]), buffers=buffers)
        unpickler._found = []
        return unpickler.load()

    return attempt(read, stream)
