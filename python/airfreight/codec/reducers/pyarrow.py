"""
Arrow: arrays that are a slice of something larger, of which pickle would ship the whole.

An array that uses its buffers goes as pickle does it, buffer by buffer and uncopied; tables, batches and chunked arrays
consist of arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# What an array may carry along unused: less than this, or an eighth of what it uses, is not worth a cut.
_WASTE_BYTES_MAX = 16 * 1024


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    import pyarrow as pa

    return reduce_array if issubclass(cls, pa.Array) and cls.__module__.startswith("pyarrow.") else None


def reduce_array(array: Any) -> Any:
    """Reduces an array with the parts of its buffers that it uses."""
    total = array.get_total_buffer_size()
    if total <= _WASTE_BYTES_MAX:
        return array.__reduce_ex__(5)
    used = array.nbytes
    if total - used <= max(_WASTE_BYTES_MAX, used // 8):
        return array.__reduce_ex__(5)
    return _cut(array)


def _cut(array: Any) -> Any:
    import pyarrow as pa

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage, (kind, array.storage)
    if pa.types.is_dictionary(kind):
        return _rebuild_dictionary, (array.indices, array.dictionary, kind.ordered)
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_primitive(kind)
        or pa.types.is_fixed_size_binary(kind)
        or _is_decimal(kind)
    ):
        return _cut_fixed(array, kind.bit_width).__reduce_ex__(5)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _cut_variable(array, pa.int32()).__reduce_ex__(5)
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return _cut_variable(array, pa.int64()).__reduce_ex__(5)
    # Nested, views, run-end encoded: Arrow's own writer knows how to cut them.
    batch = pa.record_batch([array], names=[""])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return _rebuild_from_stream, (sink.getvalue(),)


def _is_decimal(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_decimal(kind))


def _rebuild_dictionary(indices: Any, dictionary: Any, ordered: bool) -> Any:
    """Part of the object format."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=ordered, safe=False)


def _rebuild_from_stream(buffer: Any) -> Any:
    """Part of the object format."""
    import pyarrow as pa

    with pa.ipc.open_stream(buffer) as stream:
        return stream.read_next_batch().column(0)


def _whole_bytes(array: Any) -> tuple[int, int, Any]:
    """
    Where an array begins within its buffers, rounded down to a whole byte of its validity bits.

    :returns: that, what is left as its offset, and the validity bits from there.
    """
    offset = array.offset % 8
    base = array.offset - offset
    validity = array.buffers()[0]
    if validity is not None:
        validity = validity.slice(base // 8, (offset + len(array) + 7) // 8)
    return base, offset, validity


def _cut_fixed(array: Any, bits: int) -> Any:
    import pyarrow as pa

    base, offset, validity = _whole_bytes(array)
    data = array.buffers()[1].slice(base * bits // 8, ((offset + len(array)) * bits + 7) // 8)
    return pa.Array.from_buffers(array.type, len(array), [validity, data], array.null_count, offset)


def _cut_variable(array: Any, offset_type: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    base, offset, validity = _whole_bytes(array)
    _, ends, data = array.buffers()
    ends = pa.Array.from_buffers(offset_type, offset + len(array) + 1, [None, ends], 0, base)
    first, last = ends[0], ends[-1].as_py()
    ends = pc.subtract(ends, first)
    data = data.slice(first.as_py(), last - first.as_py()) if data is not None else None
    buffers = [validity, ends.buffers()[1], data]
    return pa.Array.from_buffers(array.type, len(array), buffers, array.null_count, offset)
