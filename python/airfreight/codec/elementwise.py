"""
A list, tuple or dict of which one element can be read without the others.

A mapped task reads its own element of what another task returned. Each element is a pickle of its own, behind the last
one comes for a dict the pickled list of its keys, then the table: for each pickle and for the end two little-endian
u64, the offset and the number of the first buffer. The note says where the table is. Only for elements that share
nothing that can be changed: shared references would come back as copies.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from airfreight.codec.pickler import make_pickler
from airfreight.codec.refusal import explain
from airfreight.codec.sharing import Shared
from airfreight.codec.sink import Sink
from airfreight.codec.stream import load_part
from airfreight.errors import AirfreightError

if TYPE_CHECKING:
    from airfreight._store import Writer

_ENTRY = struct.Struct("<QQ")
_KINDS = frozenset({list, tuple, dict})


def fits(value: Any) -> bool:
    """Whether a value is a container whose elements can be stored on their own."""
    return type(value) in _KINDS and len(value) > 0


def encode(writer: Writer, value: Any) -> int | None:
    """
    Writes a container element by element.

    :returns: how many elements; ``None`` when they share something, and the writer must be aborted.
    :raises UnstorableError: an element can't be stored.
    """
    sink = Sink(writer)
    is_dict = type(value) is dict
    parts = list(value.values()) if is_dict else list(value)
    if is_dict:
        parts.append(list(value))
    table = bytearray()
    shared = Shared(value)
    pickler = make_pickler(sink)
    for part in parts:
        table += _ENTRY.pack(sink.position, sink.buffers)
        try:
            pickler.dump(part)
        except (AirfreightError, MemoryError):
            raise
        except Exception as error:
            raise explain(value, error) from error
        if shared.grows_by(pickler.memo.copy()):
            return None
        pickler.clear_memo()
    table += _ENTRY.pack(sink.position, sink.buffers)
    table_at = sink.position
    sink.write(table)
    sink.finish({"elements": {"kind": type(value).__name__, "count": len(value), "table": table_at}})
    return len(value)


class Elements:
    """
    The elements of an object that was written one by one.

    :param stream: the object's stream.
    :param buffers: its buffers.
    :param facts: its note.
    """

    def __init__(self, stream: memoryview, buffers: Any, facts: dict[str, Any]) -> None:
        described = facts["elements"]
        self._stream = stream
        self._buffers = buffers
        self._facts = facts
        self._kind: str = described["kind"]
        self._count: int = described["count"]
        self._table_at: int = described["table"]

    def whole(self) -> Any:
        """The whole container."""
        values = [self._part(index) for index in range(self._count)]
        if self._kind == "dict":
            return dict(zip(self._part(self._count), values, strict=True))
        return tuple(values) if self._kind == "tuple" else values

    def one(self, index: int) -> Any:
        """
        One element; of a dict, a pair of key and value.

        :raises IndexError: there is no such element.
        """
        if not -self._count <= index < self._count:
            raise IndexError(f"element {index} of {self._count}")
        index %= self._count
        value = self._part(index)
        return (self._part(self._count)[index], value) if self._kind == "dict" else value

    def _part(self, index: int) -> Any:
        at = self._table_at + index * _ENTRY.size
        start, first = _ENTRY.unpack_from(self._stream, at)
        end, last = _ENTRY.unpack_from(self._stream, at + _ENTRY.size)
        return load_part(self._stream, start, end, self._buffers, first, last, self._facts)
