"""polars: frames and series of every type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl

LENGTH = 3000

_SERIES: dict[str, Any] = {
    "bool": lambda: pl.Series("b", [True, None, False] * 1000),
    "int8": lambda: pl.Series("i", [1, -2] * 1500, dtype=pl.Int8),
    "uint64": lambda: pl.Series("u", range(LENGTH), dtype=pl.UInt64),
    "int128": lambda: pl.Series("h", [2**100, None], dtype=pl.Int128),
    "float": lambda: pl.Series("f", [0.5, None, float("nan")] * 1000),
    "string": lambda: pl.Series("s", [f"a text that is long enough {i}" for i in range(LENGTH)]),
    "binary": lambda: pl.Series("y", [b"x", None] * 1000),
    "date": lambda: pl.Series("d", [dt.date(2024, 1, 1), None] * 1000),
    "datetime": lambda: pl.Series("t", [dt.datetime(2024, 1, 1)] * 1000, dtype=pl.Datetime("ms")),
    "datetime zone": lambda: pl.Series("z", [dt.datetime(2024, 1, 1)] * 1000, dtype=pl.Datetime("ns", "Europe/Berlin")),
    "duration": lambda: pl.Series("l", [dt.timedelta(hours=3)] * 1000),
    "time": lambda: pl.Series("c", [dt.time(1, 2, 3)] * 1000),
    "decimal": lambda: pl.Series("m", [Decimal("1.10"), None] * 1000),
    "categorical": lambda: pl.Series("k", ["a", "b", None] * 1000, dtype=pl.Categorical),
    "enum": lambda: pl.Series("e", ["lo", "hi"] * 1000, dtype=pl.Enum(["lo", "mid", "hi"])),
    "list": lambda: pl.Series("v", [[1, 2], [], None] * 1000),
    "array": lambda: pl.Series("w", [[1, 2]] * 1000, dtype=pl.Array(pl.Int16, 2)),
    "struct": lambda: pl.Series("r", [{"a": 1, "b": "x"}, {"a": None, "b": "y"}] * 1000),
    "null": lambda: pl.Series("n", [None] * 1000),
    "empty": lambda: pl.Series("0", [], dtype=pl.String),
    "sorted": lambda: pl.Series("o", range(LENGTH)).sort(),
    "sorted down": lambda: pl.Series("p", range(LENGTH)).sort(descending=True),
    "slice": lambda: pl.Series("q", [f"a text that is long enough {i}" for i in range(100_000)])[70_000:70_010],
}


def _frame() -> pl.DataFrame:
    return pl.DataFrame(
        [
            make().head(1000).extend_constant(None, 1000 - len(make().head(1000)))
            for name, make in _SERIES.items()
            if name not in ("int128", "slice")
        ]
    )


CASES: dict[str, Any] = {
    **{f"series {name}": make for name, make in _SERIES.items()},
    "frame": _frame,
    "frame slice": lambda: _frame()[100:200],
    "frame chunks": lambda: pl.concat([_frame(), _frame()], rechunk=False),
    "frame int128": lambda: _SERIES["int128"]().to_frame(),
    "frame empty": pl.DataFrame,
    "frame no rows": lambda: _frame().clear(),
    "dtype": lambda: pl.List(pl.Datetime("us", "UTC")),
    "expression": lambda: (pl.col("a") + 1).meta.serialize(),
}
