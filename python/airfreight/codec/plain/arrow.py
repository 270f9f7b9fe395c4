"""Arrow data in Arrow's own stream format: one stream for an array or a chunked one, a chunk to a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.codec.plain.reader import Reader
    from airfreight.codec.plain.writer import Encoder


def encoder_for(cls: type) -> Callable[[Encoder, Any, str], Any] | None:
    if issubclass(cls, pa.Array):
        return lambda encoder, array, _: ["array", _stream(encoder, array.type, [array])]
    if cls is pa.ChunkedArray:
        return lambda encoder, array, _: ["chunked", _stream(encoder, array.type, array.chunks)]
    if cls is pa.Schema:
        return lambda encoder, schema, _: ["schema", encoder.buffer(schema.serialize())]
    if cls is pa.Table:
        return lambda encoder, table, _: [
            "table",
            encoder.buffer(table.schema.serialize()),
            [_stream(encoder, column.type, column.chunks) for column in table.columns],
        ]
    if cls is pa.RecordBatch:
        return lambda encoder, batch, _: [
            "batch",
            encoder.buffer(batch.schema.serialize()),
            [_stream(encoder, column.type, [column]) for column in batch.columns],
            batch.num_rows,
        ]
    return None


def _stream(encoder: Encoder, kind: Any, chunks: list[Any]) -> int | str:
    schema = pa.schema([pa.field("", kind)])
    sink = pa.BufferOutputStream()
    # Chunks of a dictionary type may each have a dictionary of their own.
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=False, unify_dictionaries=False)
    with pa.ipc.new_stream(sink, schema, options=options) as stream:
        for chunk in chunks:
            stream.write_batch(pa.record_batch([chunk], schema=schema))
    return encoder.buffer(sink.getvalue())


def _chunks(reader: Reader, buffer: Any) -> tuple[Any, list[Any]]:
    with pa.ipc.open_stream(pa.py_buffer(reader.buffer(buffer))) as stream:
        return stream.schema.field(0).type, [batch.column(0) for batch in stream]


def read_array(reader: Reader, buffer: Any) -> Any:
    return _chunks(reader, buffer)[1][0]


def read_chunked(reader: Reader, buffer: Any) -> Any:
    kind, chunks = _chunks(reader, buffer)
    return pa.chunked_array(chunks, kind)


def read_schema(reader: Reader, buffer: Any) -> Any:
    return pa.ipc.read_schema(pa.py_buffer(reader.buffer(buffer)))


def read_table(reader: Reader, schema: Any, columns: list[Any]) -> Any:
    return pa.Table.from_arrays(
        [read_chunked(reader, column) for column in columns], schema=read_schema(reader, schema)
    )


def read_batch(reader: Reader, schema: Any, columns: list[Any], rows: int) -> Any:
    batch = pa.RecordBatch.from_arrays(
        [read_array(reader, column) for column in columns], schema=read_schema(reader, schema)
    )
    return batch if columns else batch.slice(0, rows)
