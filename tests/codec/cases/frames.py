"""pandas, as of version 2 and as of version 3."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

LENGTH = 1500


def _dates(**options: Any) -> pd.DatetimeIndex:
    return pd.date_range("2024-01-01", periods=LENGTH, **options)


def _na_every(values: Any, dtype: Any) -> pd.Series:
    series = pd.Series(values, dtype=dtype)
    series[::7] = pd.NA
    return series


_NUMBERS = np.arange(LENGTH) % 100
_TEXTS = [f"text {i}" for i in range(LENGTH)]

_SERIES: dict[str, Any] = {
    **{code: lambda code=code: pd.Series(_NUMBERS.astype(code)) for code in ("i1", "u2", "i8", "f4", "f8", "c16", "?")},
    **{code: lambda code=code: _na_every(_NUMBERS, code) for code in ("Int8", "UInt32", "Int64", "Float32", "Float64")},
    "boolean": lambda: _na_every(_NUMBERS % 2 == 0, "boolean"),
    "str": lambda: pd.Series(_TEXTS, dtype="str" if pd.__version__ >= "3" else "string"),
    "str missing": lambda: pd.Series([*_TEXTS, None], dtype="str" if pd.__version__ >= "3" else "string"),
    "string python": lambda: pd.Series([*_TEXTS, None], dtype="string[python]"),
    "string pyarrow": lambda: pd.Series([*_TEXTS, None], dtype="string[pyarrow]"),
    "string few": lambda: pd.Series(["a", "b"] * 900, dtype="string[python]"),
    "string nan python": lambda: pd.Series([*_TEXTS, None], dtype=pd.StringDtype("python", na_value=np.nan)),
    "string nan pyarrow": lambda: pd.Series([*_TEXTS, None], dtype=pd.StringDtype("pyarrow", na_value=np.nan)),
    "object str": lambda: pd.Series(_TEXTS, dtype=object),
    "object missing": lambda: pd.Series([*_TEXTS, None, np.nan, pd.NA, pd.NaT], dtype=object),
    "object str and missing": lambda: pd.Series([*_TEXTS, *[None, np.nan, pd.NA, pd.NaT, True] * 90], dtype=object),
    "object mixed": lambda: pd.Series([1, "a", None, [1], {"k": 2}, Decimal("1.5"), dt.date(2020, 1, 1)], dtype=object),
    "object decimals": lambda: pd.Series([Decimal(i) / 7 for i in range(LENGTH)], dtype=object),
    "dates": lambda: pd.Series(_dates(freq="D")),
    "dates ns": lambda: pd.Series(_dates(freq="min").as_unit("ns")),
    "dates s": lambda: pd.Series(_dates(freq="h").as_unit("s")),
    "dates missing": lambda: pd.Series([pd.NaT, *_dates(freq="D")]),
    "dates zone": lambda: pd.Series(_dates(freq="h", tz="Europe/Berlin")),
    "dates utc": lambda: pd.Series(_dates(freq="h", tz="UTC")),
    "dates offset": lambda: pd.Series(_dates(freq="h", tz=dt.timezone(dt.timedelta(hours=2)))),
    "timedeltas": lambda: pd.Series(pd.timedelta_range("1s", periods=LENGTH, freq="s")),
    "periods": lambda: pd.Series(pd.period_range("2000-01", periods=LENGTH, freq="M")),
    "intervals": lambda: pd.Series(pd.interval_range(0, LENGTH)),
    "intervals dates": lambda: pd.Series(pd.interval_range(pd.Timestamp("2024"), periods=50, closed="left")),
    "category": lambda: pd.Series(["a", "b", None] * 500, dtype="category"),
    "category ordered": lambda: pd.Series(pd.Categorical(["lo", "hi"] * 600, ["lo", "mid", "hi"], ordered=True)),
    "category numbers": lambda: pd.Series(pd.Categorical(_NUMBERS)),
    "sparse": lambda: pd.Series(pd.arrays.SparseArray([0, 0, 1, 2] * 400, fill_value=0)),
    "sparse nan": lambda: pd.Series(pd.arrays.SparseArray([np.nan, 1.0] * 400)),
    "arrow int": lambda: _na_every(_NUMBERS, "int64[pyarrow]"),
    "arrow string": lambda: pd.Series(_TEXTS, dtype=pd.ArrowDtype(pa.string())),
    "arrow timestamp": lambda: pd.Series(_dates(freq="h"), dtype=pd.ArrowDtype(pa.timestamp("us", "UTC"))),
    "arrow list": lambda: pd.Series([[1, 2], None, []] * 300, dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "arrow struct": lambda: pd.Series([{"a": 1}, None] * 300, dtype=pd.ArrowDtype(pa.struct([("a", pa.int32())]))),
    "arrow dictionary": lambda: pd.Series(["x", "y"] * 300, dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))),
    "arrow decimal": lambda: pd.Series([Decimal("1.10")] * 300, dtype=pd.ArrowDtype(pa.decimal128(10, 2))),
    "arrow chunks": lambda: pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([[1, 2], [], [3, None]]))),
    "empty": lambda: pd.Series([], dtype="f8"),
    "named": lambda: pd.Series(_NUMBERS, name=("a", 1)),
    "strided": lambda: pd.Series(_NUMBERS)[::3],
    "index": lambda: pd.Series(_NUMBERS, index=[f"i{i}" for i in range(LENGTH)], name="v"),
}

_INDEXES: dict[str, Any] = {
    "range": lambda: pd.RangeIndex(3, 3000, 7, name="r"),
    "int": lambda: pd.Index(_NUMBERS[::-1], name="n"),
    "float": lambda: pd.Index(_NUMBERS / 3),
    "bool": lambda: pd.Index([True, False]),
    "object": lambda: pd.Index([1, "a", None], dtype=object),
    "object str": lambda: pd.Index(_TEXTS, dtype=object, name="t"),
    "str": lambda: pd.Index(_TEXTS),
    "date": lambda: _dates(freq="D"),
    "date business": lambda: pd.bdate_range("2024-01-01", periods=LENGTH, name="b"),
    "date no freq": lambda: _dates(freq="D")[[1, 5, 6]],
    "date zone": lambda: _dates(freq="h", tz="Europe/Berlin"),
    "date zone quarter": lambda: pd.date_range("2000", periods=80, freq="QE", tz="America/New_York"),
    "timedelta": lambda: pd.timedelta_range("1h", periods=LENGTH, freq="2h"),
    "period": lambda: pd.period_range("2000", periods=LENGTH, freq="W-WED"),
    "interval": lambda: pd.interval_range(0, 100, closed="both"),
    "category": lambda: pd.CategoricalIndex(["a", "b", "a"] * 300, ordered=True),
    "multi": lambda: pd.MultiIndex.from_product([range(30), ["a", "b"], _dates(freq="D")[:20]], names=["i", None, "d"]),
    "multi missing": lambda: pd.MultiIndex.from_tuples([(1, "a"), (2, None), (None, "b")]),
    "multi unused": lambda: pd.MultiIndex.from_product([range(30), ["a", "b"]])[:3],
    "nullable": lambda: pd.Index(_NUMBERS, dtype="Int64"),
    "empty": lambda: pd.Index([], dtype="f8"),
}


def _mixed() -> pd.DataFrame:
    frame = pd.DataFrame({"number": _NUMBERS / 7, "count": _NUMBERS, "flag": _NUMBERS % 2 == 0, "text": _TEXTS})
    frame["when"] = _dates(freq="h", tz="Europe/Berlin")
    frame["day"] = pd.Series(_dates(freq="D"))
    frame["kind"] = pd.Categorical(["a", "b", "c"] * 500)
    frame["note"] = pd.Series([None, "x", 3] * 500, dtype=object)
    frame["maybe"] = _na_every(_NUMBERS, "Int64")
    return frame


def _duplicates() -> pd.DataFrame:
    return pd.DataFrame(np.arange(60).reshape(20, 3), columns=["a", "a", "b"])


def _attributes() -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1, 2]})
    frame.attrs = {"source": "here", "nested": {"list": [1, 2]}}
    return frame.set_flags(allows_duplicate_labels=False)


def _fragmented() -> pd.DataFrame:
    frame = pd.DataFrame(index=range(LENGTH))
    for i in range(12):
        frame[f"c{i}"] = _NUMBERS * i
    return frame


def _shared() -> Any:
    frame = _mixed()
    return {"frame": frame, "again": frame, "column": frame["number"]}


_FRAMES: dict[str, Any] = {
    "mixed": _mixed,
    "numeric": lambda: pd.DataFrame(np.arange(6000.0).reshape(1000, 6), columns=list("abcdef")),
    "fortran": lambda: pd.DataFrame(np.asfortranarray(np.arange(6000.0).reshape(1000, 6))),
    "slice": lambda: _mixed()[100:900:3],
    "rows": lambda: _mixed().iloc[5:1000],
    "columns": lambda: _mixed()[["text", "number"]],
    "transposed": lambda: pd.DataFrame(np.arange(600).reshape(20, 30)).T,
    "duplicates": _duplicates,
    "attrs and flags": _attributes,
    "flags": lambda: pd.DataFrame({"a": _NUMBERS}).set_flags(allows_duplicate_labels=False),
    "fragmented": _fragmented,
    "no rows": lambda: _mixed().iloc[:0],
    "no columns": lambda: pd.DataFrame(index=range(5)),
    "nothing": pd.DataFrame,
    "multi index": lambda: _mixed().set_index(["kind", "count"]),
    "multi columns": lambda: pd.DataFrame(np.ones((5, 4)), columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]])),
    "date index": lambda: _mixed().set_index("day").asfreq("D")[["number"]],
    "column name": lambda: pd.DataFrame([[1, 2]], columns=pd.Index(["a", "b"], name="name")),
    "odd columns": lambda: pd.DataFrame([[1, 2, 3]], columns=[("t", 1), None, dt.date(2020, 1, 1)]),
    "objects": lambda: pd.DataFrame(
        {"s": _TEXTS, "l": [[i] for i in range(LENGTH)], "n": [None] * LENGTH}, dtype=object
    ),
    "object texts": lambda: pd.DataFrame({f"c{i}": [f"{i} {t}" for t in _TEXTS] for i in range(4)}, dtype=object),
    "grouped": lambda: _mixed().groupby("kind", observed=True)["number"].agg(["mean", "max"]),
    "shared": _shared,
    "list": lambda: [_mixed().iloc[i * 100 : i * 100 + 100] for i in range(5)],
}

_VALUES: dict[str, Any] = {
    "NA": lambda: pd.NA,
    "NaT": lambda: pd.NaT,
    "timestamp": lambda: pd.Timestamp("2024-10-27 03:30:00.123456789", tz="Europe/Berlin"),
    "timestamp s": lambda: pd.Timestamp("2024-10-27").as_unit("s"),
    "timedelta": lambda: pd.Timedelta("1 day 3 ns"),
    "period": lambda: pd.Period("2024-03", "M"),
    "interval": lambda: pd.Interval(0, 1, closed="neither"),
    "categorical": lambda: pd.Categorical(["a", None]),
    "dtype": lambda: pd.CategoricalDtype(["a", "b"], ordered=True),
    "dtypes of text": lambda: [pd.StringDtype(storage) for storage in ("python", "pyarrow")],
    "offset": lambda: pd.offsets.QuarterEnd(startingMonth=2),
}

CASES: dict[str, Any] = {
    **{f"series {name}": make for name, make in _SERIES.items()},
    **{f"index {name}": make for name, make in _INDEXES.items()},
    **{f"frame {name}": make for name, make in _FRAMES.items()},
    **_VALUES,
    "dtype of text nan": lambda: pd.StringDtype("pyarrow", na_value=np.nan),
}
if not hasattr(pd.StringDtype, "na_value") or pd.__version__ < "2.3":
    for name in ("series string nan python", "series string nan pyarrow", "dtype of text nan"):
        del CASES[name]
