"""
A list, tuple or dict of which one element can be read without the others.

A mapped task reads its own element of what another task returned. Each element is a pickle of its own; a table at the
end of the stream says where each begins and which buffers are its own. Only for elements that share nothing that can
be changed: shared references would come back as copies.

The stream: the magic, the pickles, for a dict the pickled list of its keys, the table (for each element and for the end
two little-endian u64: offset and number of the first buffer), and the tail (kind, count, offset of the keys, offset of
the table, then the magic again).
"""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any

from airfreight.codec import dagfile
from airfreight.codec.pickler import make_pickler
from airfreight.codec.sharing import Shared
from airfreight.codec.refusal import explain
from airfreight.codec.stream import attempt
from airfreight.errors import AirfreightError, CorruptError

if TYPE_CHECKING:
    from airfreight._store import Writer

_MAGIC = b"AFELEMS1"
_ENTRY = struct.Struct("<QQ")
_TAIL = struct.Struct("<QQQQ8s")
_KINDS: dict[type, int] = {list: 0, tuple: 1, dict: 2}


def fits(value: Any) -> bool:
    """Whether a value is a container whose elements can be stored on their own."""
    return type(value) in _KINDS


class _Counted:
    """Passes a stream on and knows how long it is."""

    def __init__(self, sink: Any) -> None:
        self._write = sink.write
        self.position = 0

    def write(self, data: Any, /) -> int:
        self._write(data)
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        self.position += size
        return size


def encode(writer: Writer, value: Any) -> int | None:
    """
    Writes a container element by element.

    :returns: how many elements; ``None`` when they share something, and the writer must be aborted.
    :raises UnstorableError: an element can't be stored.
    """
    watch = dagfile.Watch(writer) if dagfile.any_loaded() else None
    sink = _Counted(watch or writer)
    buffers = 0

    def add_buffer(buffer: pickle.PickleBuffer) -> bool:
        nonlocal buffers
        kept = writer.add_buffer(buffer)
        buffers += not kept
        return kept

    is_dict = type(value) is dict
    parts = list(value.values()) if is_dict else list(value)
    table = bytearray()
    shared = Shared(value)
    try:
        sink.write(_MAGIC)
        pickler = make_pickler(sink, add_buffer)
        for part in parts:
            table += _ENTRY.pack(sink.position, buffers)
            pickler.dump(part)
            if shared.grows_by(pickler.memo.copy()):
                return None
            pickler.clear_memo()
        table += _ENTRY.pack(sink.position, buffers)
        keys_at = sink.position
        if is_dict:
            # Within the stream, whatever their size: a table has no place for buffers of keys.
            pickler = make_pickler(sink, None)
            pickler.dump(list(value))
            if shared.grows_by(pickler.memo.copy()):
                return None
    except (AirfreightError, MemoryError):
        raise
    except Exception as error:
        raise explain(value, error) from error
    table_at = sink.position
    sink.write(bytes(table))
    sink.write(_TAIL.pack(_KINDS[type(value)], len(parts), keys_at, table_at, _MAGIC))
    if watch is not None:
        watch.finish()
    return len(parts)


def is_elementwise(stream: memoryview) -> bool:
    return bytes(stream[:8]) == _MAGIC


def decode(stream: memoryview, buffers: Any) -> Any:
    """Reads the whole container."""
    layout = _Layout(stream, buffers)
    values = [layout.read(index) for index in range(layout.count)]
    if layout.kind == _KINDS[dict]:
        return dict(zip(layout.keys(), values, strict=True))
    return tuple(values) if layout.kind == _KINDS[tuple] else values


def decode_one(stream: memoryview, buffers: Any, index: int) -> Any:
    """
    Reads one element; of a dict, a pair of key and value.

    :raises IndexError: there is no such element.
    """
    layout = _Layout(stream, buffers)
    if not -layout.count <= index < layout.count:
        raise IndexError(f"element {index} of {layout.count}")
    index %= layout.count
    value = layout.read(index)
    return (layout.keys()[index], value) if layout.kind == _KINDS[dict] else value


class _Layout:
    """Where everything is in a stream."""

    def __init__(self, stream: memoryview, buffers: Any) -> None:
        end = dagfile.end_of_value(stream)
        if end < len(_MAGIC) + _TAIL.size:
            raise CorruptError("the stream of a container ends before its table")
        self._stream = stream
        self._buffers = buffers
        self.kind, self.count, self._keys_at, self._table_at, magic = _TAIL.unpack_from(stream, end - _TAIL.size)
        if magic != _MAGIC or self._table_at + (self.count + 1) * _ENTRY.size + _TAIL.size != end:
            raise CorruptError("the table of a container disagrees with the length of its stream")

    def read(self, index: int) -> Any:
        start, first = _ENTRY.unpack_from(self._stream, self._table_at + index * _ENTRY.size)
        end, last = _ENTRY.unpack_from(self._stream, self._table_at + (index + 1) * _ENTRY.size)
        part = self._stream[start:end]
        buffers = [self._buffers[number] for number in range(first, last)]
        return attempt(lambda: pickle.loads(part, buffers=buffers), self._stream)

    def keys(self) -> list[Any]:
        part = self._stream[self._keys_at : self._table_at]
        return attempt(lambda: pickle.loads(part), self._stream)  # type: ignore[no-any-return]
