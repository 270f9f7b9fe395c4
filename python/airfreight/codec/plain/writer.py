"""Values into a JSON document and buffers."""

from __future__ import annotations

import base64
import json
import math
import struct
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from airfreight.codec.refusal import UnstorableError, label, name_of, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.codec.sink import Target

_HINT = (
    "return bytes, numbers, text, NumPy or Arrow data, pandas frames of these, or lists and dicts of them; "
    "or set [airfreight] allow_pickle = true"
)


class Encoder:
    """
    One encoding.

    A node of the document is JSON's own value, or a list that begins with a tag. Containers and arrays are numbered as
    they begin, so that a second reference to one is ``["ref", number]``.

    :param target: takes the buffers.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._buffers = 0
        self._numbers: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._kept: list[Any] = []

    def document(self, value: Any) -> bytes:
        return json.dumps(self.node(value, ""), separators=(",", ":"), allow_nan=False).encode()

    def buffer(self, memory: Any) -> int | str:
        """Takes a buffer; its number, or itself in base64 when it is too short for one."""
        if self._target.add_buffer(memory):
            return base64.b64encode(memory).decode()
        self._buffers += 1
        return self._buffers - 1

    def refuse(self, value: Any, path: str, reason: str = "reading it back would need pickle") -> UnstorableError:
        return UnstorableError(
            path, type_name(value), f"a {type_name(value)}: [airfreight] allow_pickle is false, and {reason}", _HINT
        )

    def node(self, value: Any, path: str) -> Any:
        """The node of a value."""
        cls = type(value)
        if value is None or cls is bool or cls is str:
            return value
        if cls is int:
            return value if value.bit_length() < 63 else ["int", hex(value)]
        if cls is float:
            return value if math.isfinite(value) else ["float", _float_text(value)]
        if cls is complex:
            return ["complex", _float_text(value.real), _float_text(value.imag)]
        number = self._numbers.get(id(value))
        if number is not None:
            if number in self._unfinished:
                raise self.refuse(value, path, "it holds itself")
            return ["ref", number]
        encode = _ENCODERS.get(cls) or _library_encoder(cls)
        if encode is None:
            raise self.refuse(value, path)
        number = len(self._numbers)
        self._numbers[id(value)] = number
        self._kept.append(value)
        if cls not in (list, dict):
            # Made of its parts; nothing can refer to it before.
            self._unfinished.add(number)
        node = encode(self, value, path)
        self._unfinished.discard(number)
        return node

    def nodes(self, values: Any, path: str) -> list[Any]:
        return [self.node(part, f"{path}[{index}]") for index, part in enumerate(values)]


def _bytes(encoder: Encoder, value: Any, _: str) -> Any:
    return [type(value).__name__, encoder.buffer(PickleBuffer(value))]


def _sequence(encoder: Encoder, value: Any, path: str) -> Any:
    return [type(value).__name__, encoder.nodes(value, path)]


def _mapping(encoder: Encoder, value: dict[Any, Any], path: str) -> Any:
    return [
        "dict",
        [
            [encoder.node(key, f"{path}.keys()[{label(key)}]"), encoder.node(part, f"{path}[{label(key)}]")]
            for key, part in value.items()
        ],
    ]


_ENCODERS: dict[type, Callable[[Encoder, Any, str], Any]] = {
    bytes: _bytes,
    bytearray: _bytes,
    list: _sequence,
    tuple: _sequence,
    set: _sequence,
    frozenset: _sequence,
    dict: _mapping,
}


def _library_encoder(cls: type) -> Callable[[Encoder, Any, str], Any] | None:
    library = name_of(cls).partition(".")[0]
    if library == "numpy":
        from airfreight.codec.plain import arrays

        return arrays.encoder_for(cls)
    if library == "pyarrow":
        from airfreight.codec.plain import arrow

        return arrow.encoder_for(cls)
    if library == "pandas":
        from airfreight.codec.plain import frames

        return frames.encoder_for(cls)
    return None


def _float_text(value: float) -> str:
    """A float in a form that keeps all of it; of a NaN, the bits that ``float.hex`` leaves out."""
    return "nan:" + struct.pack(">d", value).hex() if math.isnan(value) else value.hex()
