"""pandas frames, series and indexes whose columns are plain memory: numbers, dates, Arrow data, categories of these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from airfreight.codec.reducers.pandas import _rebuild_arrow
from airfreight.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.codec.plain.reader import Reader
    from airfreight.codec.plain.writer import Encoder

_NULLABLE = ("boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64")


def encoder_for(cls: type) -> Callable[[Encoder, Any, str], Any] | None:
    if cls is pd.DataFrame:
        return _frame
    if cls is pd.Series:
        return _series
    if issubclass(cls, pd.Index):
        return _index
    return None


def _frame(encoder: Encoder, frame: Any, path: str) -> Any:
    columns: Any
    dtypes = set(frame.dtypes)
    if len(dtypes) == 1 and type(next(iter(dtypes))).__module__.startswith("numpy"):
        columns = encoder.node(frame.to_numpy(), path)
    else:
        columns = {"each": [_column(encoder, frame.iloc[:, at].array, _at(path, at)) for at in range(frame.shape[1])]}
    return [
        "frame",
        columns,
        encoder.node(frame.index, f"{path}.index"),
        encoder.node(frame.columns, f"{path}.columns"),
        encoder.node(frame.attrs, f"{path}.attrs"),
        frame.flags.allows_duplicate_labels,
    ]


def _at(path: str, position: int) -> str:
    return f"{path}.iloc[:, {position}]"


def read_frame(reader: Reader, columns: Any, index: Any, labels: Any, attrs: Any, duplicates: bool) -> Any:
    content: Any
    if isinstance(columns, dict):
        content = dict(enumerate([_read_column(reader, array) for array in columns["each"]]))
    else:
        content = reader.value(columns)
    frame = pd.DataFrame(content, index=reader.value(index), copy=False)
    frame.columns = reader.value(labels)
    frame.attrs = reader.value(attrs)
    return frame if duplicates else frame.set_flags(allows_duplicate_labels=False)


def _series(encoder: Encoder, series: Any, path: str) -> Any:
    return [
        "series",
        encoder.node(series.index, f"{path}.index"),
        encoder.node(series.name, f"{path}.name"),
        _column(encoder, series.array, path),
        encoder.node(series.attrs, f"{path}.attrs"),
        series.flags.allows_duplicate_labels,
    ]


def read_series(reader: Reader, index: Any, name: Any, array: Any, attrs: Any, duplicates: bool) -> Any:
    rows, label = reader.value(index), reader.value(name)
    series = pd.Series(_read_column(reader, array), index=rows, name=label, copy=False)
    series.attrs = reader.value(attrs)
    return series if duplicates else series.set_flags(allows_duplicate_labels=False)


def _index(encoder: Encoder, index: Any, path: str) -> Any:
    names = encoder.node(list(index.names), f"{path}.names")
    if isinstance(index, pd.RangeIndex):
        return ["index", "range", names, [index.start, index.stop, index.step]]
    if isinstance(index, pd.MultiIndex):
        levels = [encoder.node(level, f"{path}.levels[{at}]") for at, level in enumerate(index.levels)]
        return ["index", "multi", names, levels, [encoder.node(codes, path) for codes in index.codes]]
    return ["index", "plain", names, _column(encoder, index.array, path), _frequency(encoder, index, path)]


def read_index(reader: Reader, kind: str, names: Any, *rest: Any) -> Any:
    labels: Any = reader.value(names)
    if kind == "range":
        start, stop, step = rest[0]
        return pd.RangeIndex(start, stop, step, name=labels[0])
    if kind == "multi":
        levels = [reader.value(level) for level in rest[0]]
        return pd.MultiIndex(levels, [reader.value(codes) for codes in rest[1]], names=labels)
    array = _read_column(reader, rest[0])
    index = pd.Index(array, dtype=array.dtype, name=labels[0], copy=False)
    if rest[1] is not None:
        index.freq = to_offset(rest[1])
    return index


def _column(encoder: Encoder, array: Any, path: str) -> Any:
    """An array of pandas: a kind, and its parts."""
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return ["category", encoder.node(array.codes, path), encoder.node(array.categories, path), bool(array.ordered)]
    if hasattr(array, "_pa_array"):
        if isinstance(dtype, pd.StringDtype):
            return ["string", encoder.node(array._pa_array, path), _missing(dtype)]
        return ["arrow", encoder.node(array._pa_array, path)]
    if str(dtype) in _NULLABLE:
        return ["nullable", str(dtype), encoder.node(array._data, path), encoder.node(array._mask, path)]
    if isinstance(dtype, pd.DatetimeTZDtype):
        zone = str(dtype.tz)
        if pd.DatetimeTZDtype(dtype.unit, zone) != dtype:
            raise encoder.refuse(array, path, f"the time zone {zone} has no name")
        return ["zoned", encoder.node(array._ndarray, path), zone]
    if isinstance(array, (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray)):
        return ["dates", encoder.node(array._ndarray, path)]
    if isinstance(dtype, pd.StringDtype):
        texts = [part if isinstance(part, str) else None for part in array.tolist()]
        return ["texts", encoder.nodes(texts, path), _missing(dtype)]
    if type(array) is pd.arrays.NumpyExtensionArray and not dtype.numpy_dtype.hasobject:
        return ["numpy", encoder.node(array.to_numpy(), path)]
    raise encoder.refuse(array, path, f"its dtype is {dtype}")


def _missing(dtype: Any) -> str:
    return "NA" if getattr(dtype, "na_value", pd.NA) is pd.NA else "nan"


def _frequency(encoder: Encoder, index: Any, path: str) -> str | None:
    frequency = getattr(index, "freq", None)
    if frequency is None or isinstance(index, pd.PeriodIndex):
        return None
    if to_offset(frequency.freqstr) != frequency:
        raise encoder.refuse(index, path, f"its frequency {frequency!r} has no name")
    return str(frequency.freqstr)


def _read_column(reader: Reader, node: Any) -> Any:
    kind, *rest = node
    if kind == "numpy":
        return pd.arrays.NumpyExtensionArray(reader.value(rest[0]))
    if kind == "category":
        codes, categories = reader.value(rest[0]), reader.value(rest[1])
        return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, rest[2]))
    if kind == "arrow":
        return pd.arrays.ArrowExtensionArray(reader.value(rest[0]))
    if kind in ("string", "texts"):
        storage = "pyarrow" if kind == "string" else "python"
        string: Any = pd.StringDtype
        dtype = string(storage) if rest[1] == "NA" else string(storage, na_value=np.nan)
        if kind == "texts":
            return pd.array(reader.values(rest[0]), dtype=dtype)
        return _rebuild_arrow(dtype.construct_array_type(), reader.value(rest[0]), {"_dtype": dtype})
    if kind == "nullable":
        if rest[0] not in _NULLABLE:
            raise CorruptError("a column in the document of an object has an unknown dtype")
        data, mask = reader.value(rest[1]), reader.value(rest[2])
        nullable: Any = pd.api.types.pandas_dtype(rest[0])
        return nullable.construct_array_type()(data, mask)
    if kind == "zoned":
        data = reader.value(rest[0])
        return pd.DatetimeIndex(data, copy=False).tz_localize("UTC").tz_convert(rest[1]).array
    if kind == "dates":
        return pd.array(reader.value(rest[0]), copy=False)
    raise CorruptError("a column in the document of an object is of an unknown kind")
