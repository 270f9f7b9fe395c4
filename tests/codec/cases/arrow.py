"""Arrow: every kind of type, whole, chunked, and cut out of something larger."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa

LENGTH = 12_000

_ARRAYS: dict[str, Any] = {
    "null": lambda: pa.nulls(LENGTH),
    "bool": lambda: pa.array([True, False, None] * (LENGTH // 3)),
    "int8": lambda: pa.array([i % 100 if i % 5 else None for i in range(LENGTH)], pa.int8()),
    "uint64": lambda: pa.array(range(LENGTH), pa.uint64()),
    "half": lambda: pa.array([1.5] * LENGTH, pa.float16()),
    "double": lambda: pa.array([i / 7 for i in range(LENGTH)]),
    "string": lambda: pa.array([f"text {i}" if i % 11 else None for i in range(LENGTH)]),
    "large string": lambda: pa.array([f"text {i}" for i in range(LENGTH)], pa.large_string()),
    "string view": lambda: pa.array([f"a rather long text {i}" for i in range(LENGTH)], pa.string_view()),
    "binary": lambda: pa.array([bytes([i % 256]) * 3 for i in range(LENGTH)]),
    "large binary": lambda: pa.array([b"x" * (i % 9) for i in range(LENGTH)], pa.large_binary()),
    "fixed binary": lambda: pa.array([b"abcd", None] * (LENGTH // 2), pa.binary(4)),
    "date32": lambda: pa.array([dt.date.fromordinal(700_000 + i) for i in range(LENGTH)]),
    "time64": lambda: pa.array([i * 1000 for i in range(LENGTH)], pa.time64("us")),
    "timestamp": lambda: pa.array(range(LENGTH), pa.timestamp("ns", "Europe/Berlin")),
    "duration": lambda: pa.array(range(LENGTH), pa.duration("ms")),
    "decimal": lambda: pa.array([Decimal("1.10")] * LENGTH, pa.decimal128(12, 2)),
    "decimal256": lambda: pa.array([Decimal("1.10")] * LENGTH, pa.decimal256(60, 2)),
    "list": lambda: pa.array([[i, None], [], None] * (LENGTH // 3) if (i := 3) else []),
    "list of strings": lambda: pa.array([[f"t{i}", "u"] for i in range(LENGTH)]),
    "fixed list": lambda: pa.array([[1.0, 2.0]] * LENGTH, pa.list_(pa.float64(), 2)),
    "struct": lambda: pa.array([{"a": i, "b": f"t{i}"} if i % 4 else None for i in range(LENGTH)]),
    "map": lambda: pa.array([[("k", i)] for i in range(LENGTH)], pa.map_(pa.string(), pa.int64())),
    "union": lambda: pa.UnionArray.from_sparse(
        pa.array([0, 1] * (LENGTH // 2), pa.int8()), [pa.array(range(LENGTH)), pa.array(["x"] * LENGTH)]
    ),
    "dictionary": lambda: pa.array([f"kind {i % 50}" for i in range(LENGTH)]).dictionary_encode(),
    "dictionary nested": lambda: pa.array(
        [[f"kind {i % 50}"] for i in range(LENGTH)], pa.list_(pa.dictionary(pa.int16(), pa.string()))
    ),
    "run end": lambda: pa.RunEndEncodedArray.from_arrays([LENGTH // 2, LENGTH], ["a", "b"]),
    "extension": lambda: pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([bytes(range(16))] * LENGTH, pa.binary(16))
    ),
}


def _table() -> pa.Table:
    names = [name for name in _ARRAYS if name not in ("union", "run end")]
    schema_metadata = {b"origin": b"test"}
    table = pa.table([_ARRAYS[name]() for name in names], names=names)
    return table.replace_schema_metadata(schema_metadata)


def _chunked() -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(range(5000)), pa.array([], pa.int64()), pa.array(range(7))])


CASES: dict[str, Any] = {
    **{f"whole {name}": make for name, make in _ARRAYS.items()},
    **{f"slice {name}": lambda make=make: make().slice(4003, 531) for name, make in _ARRAYS.items()},
    **{
        f"none of {name}": lambda make=make: make().slice(4003, 0)
        for name, make in _ARRAYS.items()
        if name in ("string", "double", "struct", "dictionary", "bool")
    },
    "chunked": _chunked,
    "chunked slice": lambda: _chunked().slice(4990, 15),
    "chunked none": lambda: pa.chunked_array([], pa.string()),
    "table": _table,
    "table slice": lambda: _table().slice(100, 57),
    "table chunks": lambda: pa.concat_tables([_table().slice(0, 10), _table().slice(4000, 3)]),
    "table empty": lambda: _table().slice(0, 0),
    "table no columns": lambda: pa.table({}),
    "table duplicates": lambda: pa.table([[1], ["x"]], names=["a", "a"]),
    "table not null": lambda: pa.table(
        [[1]], pa.schema([pa.field("a", pa.int64(), nullable=False, metadata={"m": "1"})])
    ),
    "batch": lambda: pa.record_batch([_ARRAYS["string"](), _ARRAYS["double"]()], names=["s", "d"]),
    "batch slice": lambda: pa.record_batch([_ARRAYS["string"](), _ARRAYS["struct"]()], names=["s", "t"]).slice(
        77, 9000
    ),
    "schema": lambda: _table().schema,
    "type": lambda: pa.struct([("a", pa.list_(pa.int8()))]),
    "scalar": lambda: pa.scalar(Decimal("1.10")),
    "buffer": lambda: pa.py_buffer(b"abc" * 1000),
}
