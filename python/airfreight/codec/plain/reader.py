"""A JSON document and buffers into values."""

from __future__ import annotations

import base64
import json
import struct
from importlib import import_module
from typing import Any

from airfreight.errors import AirfreightError, CorruptError

# Which module reads a tag; of ours, never a name from the document.
_MODULES = {
    "ndarray": "arrays",
    "scalar": "arrays",
    "dtype": "arrays",
    "array": "arrow",
    "chunked": "arrow",
    "table": "arrow",
    "batch": "arrow",
    "schema": "arrow",
    "frame": "frames",
    "series": "frames",
    "index": "frames",
    "column": "frames",
}

_UNFINISHED = object()


class Reader:
    """
    One decoding.

    :param buffers: the object's buffers.
    """

    def __init__(self, buffers: Any) -> None:
        self._buffers = buffers
        self._values: list[Any] = []

    def document(self, text: bytes) -> Any:
        try:
            return self.value(json.loads(text))
        except (AirfreightError, MemoryError):
            raise
        except Exception as error:
            raise CorruptError(f"the document of an object is not readable: {error}") from error

    def buffer(self, node: Any) -> Any:
        """The buffer of a node."""
        return bytearray(base64.b64decode(node)) if isinstance(node, str) else self._buffers[node]

    def values(self, nodes: list[Any]) -> list[Any]:
        """The values of several nodes."""
        return [self.value(node) for node in nodes]

    def value(self, node: Any) -> Any:
        """The value of a node."""
        if not isinstance(node, list):
            if isinstance(node, dict):
                raise CorruptError("the document of an object holds a bare JSON object")
            return node
        tag, *rest = node
        if tag == "int":
            return int(rest[0], 16)
        if tag == "float":
            return _float(rest[0])
        if tag == "complex":
            return complex(_float(rest[0]), _float(rest[1]))
        if tag == "ref":
            value = self._values[rest[0]]
            if value is _UNFINISHED:
                raise CorruptError("the document of an object holds a value that is part of itself")
            return value
        number = len(self._values)
        self._values.append(_UNFINISHED)
        value = self._container(tag, rest, number)
        self._values[number] = value
        return value

    def _container(self, tag: str, rest: list[Any], number: int) -> Any:
        if tag == "list":
            made: list[Any] = []
            self._values[number] = made
            made.extend(self.value(part) for part in rest[0])
            return made
        if tag == "dict":
            mapping: dict[Any, Any] = {}
            self._values[number] = mapping
            for key, part in rest[0]:
                # In this order, which is the one in which they were numbered.
                found = self.value(key)
                mapping[found] = self.value(part)
            return mapping
        if tag == "tuple":
            return tuple(self.values(rest[0]))
        if tag == "set":
            return set(self.values(rest[0]))
        if tag == "frozenset":
            return frozenset(self.values(rest[0]))
        if tag == "bytes":
            return bytes(self.buffer(rest[0]))
        if tag == "bytearray":
            return bytearray(self.buffer(rest[0]))
        module = _MODULES.get(tag)
        if module is None:
            raise CorruptError(
                f"the document of an object holds a {str(tag)[:40]!r}, which this version does not know",
                "it was written by a newer Airfreight, or by another program",
            )
        return getattr(import_module(f"airfreight.codec.plain.{module}"), f"read_{tag}")(self, *rest)


def _float(text: str) -> float:
    bits = text.removeprefix("nan:")
    if bits == text:
        return float.fromhex(text)
    number: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    return number
