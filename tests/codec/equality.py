"""
Strict equality: what a task gets must be what the other one returned, not something that compares equal to it.

Types, dtypes, byte order, memory order, writability, index classes, names, missing values, chunks, flags, and which
parts are one and the same object.
"""

from __future__ import annotations

import datetime as dt
import decimal
import pickle
import struct
import types
import uuid
from typing import Any


def assert_same(actual: Any, expected: Any, *, blocks: bool = True) -> None:
    """
    Asserts that two values can't be told apart.

    :param blocks: that frames consist of the same blocks as well, which only their speed tells.
    """
    Comparison(blocks).compare(actual, expected, "value")


# Nobody can tell whether two of these are one object.
_UNCHANGING = (tuple, frozenset, decimal.Decimal, uuid.UUID, dt.date, dt.time, dt.timedelta, dt.tzinfo)


class Comparison:
    """One comparison; remembers which object became which."""

    def __init__(self, blocks: bool) -> None:
        self.blocks = blocks
        self._became: dict[int, Any] = {}
        self._keep: list[Any] = []

    def compare(self, actual: Any, expected: Any, path: str) -> None:
        cls = type(expected)
        assert type(actual) is cls, f"{path}: {type(actual)} instead of {cls}"
        if cls in (type(None), bool, int, str, bytes, type(Ellipsis), type(NotImplemented)):
            assert actual == expected, f"{path}: {actual!r} instead of {expected!r}"
            return
        if cls is float:
            assert _bits(actual) == _bits(expected), f"{path}: {actual!r} instead of {expected!r}"
            return
        if cls is complex:
            assert [_bits(part) for part in (actual.real, actual.imag)] == [
                _bits(part) for part in (expected.real, expected.imag)
            ], path
            return
        if isinstance(expected, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
            assert actual is expected, f"{path}: {actual!r} instead of {expected!r}"
            return
        if id(expected) in self._became:
            if not isinstance(expected, _UNCHANGING) and _comparer(cls) is not _index:
                assert actual is self._became[id(expected)], f"{path}: no longer the object that it was elsewhere"
            return
        self._became[id(expected)] = actual
        self._keep.append(expected)
        _comparer(cls)(self, actual, expected, path)

    def attributes(self, actual: Any, expected: Any, path: str) -> None:
        self.compare(_attributes(actual), _attributes(expected), f"{path}.__dict__")


def _bits(number: float) -> bytes:
    return struct.pack("<d", number)


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _comparer(cls: type) -> Any:
    for base in cls.__mro__:
        library = base.__module__.partition(".")[0]
        found = _COMPARERS.get(f"{library}.{base.__qualname__}")
        if found is not None:
            return found
    return _anything


def _sequence(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert len(actual) == len(expected), f"{path}: {len(actual)} elements instead of {len(expected)}"
    for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
        comparison.compare(one, other, f"{path}[{index}]")
    if type(expected) not in (list, tuple):
        comparison.attributes(actual, expected, path)


def _mapping(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert len(actual) == len(expected), path
    for (key, one), (wanted, other) in zip(actual.items(), expected.items(), strict=True):
        comparison.compare(key, wanted, f"{path} key")
        comparison.compare(one, other, f"{path}[{key!r}]")
    if type(expected) is not dict:
        comparison.attributes(actual, expected, path)


def _set(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual == expected, path
    assert sorted(map(_typed, actual)) == sorted(map(_typed, expected)), path


def _typed(value: Any) -> str:
    return f"{type(value)} {value!r}"


def _bytes_like(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual == expected, path
    comparison.attributes(actual, expected, path)


def _memoryview(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    for name in ("format", "shape", "itemsize", "nbytes", "readonly"):
        assert getattr(actual, name) == getattr(expected, name), f"{path}.{name}"
    assert actual.tobytes() == expected.tobytes(), path


def _array_array(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert (actual.typecode, actual.tobytes()) == (expected.typecode, expected.tobytes()), path


def _ndarray(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    import numpy as np

    assert str(actual.dtype) == str(expected.dtype), f"{path}: dtype {actual.dtype} instead of {expected.dtype}"
    assert actual.dtype == expected.dtype, f"{path}: dtype {actual.dtype} instead of {expected.dtype}"
    assert actual.dtype.byteorder == expected.dtype.byteorder, path
    assert actual.dtype.metadata == expected.dtype.metadata, path
    assert actual.shape == expected.shape, f"{path}: shape {actual.shape} instead of {expected.shape}"
    if _is_dense(expected):
        assert _strides(actual) == _strides(expected), f"{path}: memory order"
        assert actual.flags.writeable == expected.flags.writeable, f"{path}: writeable"
    else:
        # An array with gaps comes back without: in the order that pickle gives it.
        order = pickle.loads(pickle.dumps(np.asarray(expected), 5)).flags
        assert actual.flags.c_contiguous == order.c_contiguous, f"{path}: memory order"
        assert actual.flags.f_contiguous == order.f_contiguous, f"{path}: memory order"
        assert actual.flags.writeable, f"{path}: writeable"
    assert actual.flags.aligned, path
    if isinstance(expected, np.ma.MaskedArray):
        comparison.compare(actual._data, expected._data, f"{path}.data")
        comparison.compare(actual._mask, expected._mask, f"{path}.mask")
        comparison.compare(actual._hardmask, expected._hardmask, f"{path}.hardmask")
        comparison.compare(actual._fill_value, expected._fill_value, f"{path}.fill_value")
    elif (
        (expected.dtype.hasobject and expected.dtype.kind == "O")
        or expected.dtype.kind == "T"
        or expected.dtype.hasobject
    ):
        _sequence(comparison, actual.ravel().tolist(), expected.ravel().tolist(), path)
    elif expected.dtype.char in "gG":
        # Has bytes that mean nothing.
        assert np.array_equal(actual, expected, equal_nan=True), path
    else:
        assert actual.tobytes() == expected.tobytes(), f"{path}: other bytes"
    if type(expected) not in (np.ndarray, np.memmap, np.ma.MaskedArray):
        comparison.attributes(actual, expected, path)


def _strides(array: Any) -> list[int]:
    return [stride for stride, length in zip(array.strides, array.shape, strict=True) if length > 1 and array.size]


def _is_dense(array: Any) -> bool:
    """Whether an array uses every byte between its first and its last, in whatever order of axes."""
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return bool(array.transpose(axes).flags.c_contiguous)


def _numpy_scalar(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.dtype == expected.dtype, path
    assert actual.dtype.byteorder == expected.dtype.byteorder, path
    if expected.dtype.hasobject:
        comparison.compare(actual.tolist(), expected.tolist(), path)
    else:
        assert actual.tobytes() == expected.tobytes(), path


def _dtype(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual == expected, path
    assert actual.metadata == expected.metadata, path


def _frame(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    import pandas as pd

    assert actual.shape == expected.shape, path
    comparison.compare(actual.index, expected.index, f"{path}.index")
    comparison.compare(actual.columns, expected.columns, f"{path}.columns")
    comparison.compare(actual.attrs, expected.attrs, f"{path}.attrs")
    assert actual.flags.allows_duplicate_labels == expected.flags.allows_duplicate_labels, path
    for position in range(expected.shape[1]):
        _column(comparison, actual.iloc[:, position], expected.iloc[:, position], f"{path}.iloc[:, {position}]")
    assert not comparison.blocks or len(actual._mgr.blocks) == len(expected._mgr.blocks), f"{path}: other blocks"
    if not expected.columns.has_duplicates:
        pd.testing.assert_frame_equal(actual, expected, check_exact=True, check_freq=True)


def _series(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    import pandas as pd

    comparison.compare(actual.index, expected.index, f"{path}.index")
    comparison.compare(actual.attrs, expected.attrs, f"{path}.attrs")
    assert actual.flags.allows_duplicate_labels == expected.flags.allows_duplicate_labels, path
    _column(comparison, actual, expected, path)
    pd.testing.assert_series_equal(actual, expected, check_exact=True, check_freq=True)


def _column(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    comparison.compare(actual.name, expected.name, f"{path}.name")
    assert str(actual.dtype) == str(expected.dtype), f"{path}: {actual.dtype} instead of {expected.dtype}"
    assert actual.dtype == expected.dtype, path
    _pandas_values(comparison, actual.array, expected.array, f"{path}.array")


def _index(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    import pandas as pd

    comparison.compare(list(actual.names), list(expected.names), f"{path}.names")
    assert actual.dtype == expected.dtype, f"{path}: {actual.dtype} instead of {expected.dtype}"
    if isinstance(expected, pd.RangeIndex):
        assert actual._range == expected._range, path
    elif isinstance(expected, pd.MultiIndex):
        _sequence(comparison, list(actual.levels), list(expected.levels), f"{path}.levels")
        for one, other in zip(actual.codes, expected.codes, strict=True):
            assert one.dtype == other.dtype, path
            assert one.tolist() == other.tolist(), path
    else:
        _pandas_values(comparison, actual.array, expected.array, f"{path}.array")
    assert getattr(actual, "freq", None) == getattr(expected, "freq", None), f"{path}.freq"


def _pandas_values(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    import pandas as pd

    assert type(actual) is type(expected), f"{path}: {type(actual)} instead of {type(expected)}"
    assert actual.dtype == expected.dtype, path
    assert len(actual) == len(expected), path
    if hasattr(expected, "_pa_array"):
        _arrow_chunked(comparison, actual._pa_array, expected._pa_array, path)
        assert getattr(actual.dtype, "na_value", None) is getattr(expected.dtype, "na_value", None), path
        assert getattr(actual.dtype, "storage", None) == getattr(expected.dtype, "storage", None), path
    elif isinstance(expected, pd.Categorical):
        comparison.compare(actual.categories, expected.categories, f"{path}.categories")
        assert actual.ordered == expected.ordered, path
        assert actual.codes.dtype == expected.codes.dtype, path
        assert actual.codes.tolist() == expected.codes.tolist(), path
    elif isinstance(expected, pd.arrays.SparseArray):
        _ndarray_values(comparison, actual.sp_values, expected.sp_values, path)
        assert actual.sp_index.equals(expected.sp_index), path
    elif isinstance(expected, pd.arrays.IntervalArray):
        assert actual.closed == expected.closed, path
        comparison.compare(actual.left, expected.left, f"{path}.left")
        comparison.compare(actual.right, expected.right, f"{path}.right")
    elif hasattr(expected, "_mask"):
        _ndarray_values(comparison, actual._data, expected._data, path)
        _ndarray_values(comparison, actual._mask, expected._mask, path)
    else:
        _ndarray_values(comparison, actual._ndarray, expected._ndarray, path)
        assert getattr(actual, "_freq", None) == getattr(expected, "_freq", None), f"{path}.freq"


def _ndarray_values(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    """A column's memory: what counts is its content, since a block is shared by columns."""
    assert actual.dtype == expected.dtype, path
    assert actual.shape == expected.shape, path
    if expected.dtype.hasobject or expected.dtype.kind == "T":
        _sequence(comparison, actual.tolist(), expected.tolist(), path)
    else:
        assert actual.tobytes() == expected.tobytes(), f"{path}: other bytes"


def _pandas_scalar(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert repr(actual) == repr(expected), path
    for name in ("value", "unit", "tzinfo", "fold", "freq", "closed", "ordinal"):
        assert getattr(actual, name, None) == getattr(expected, name, None), f"{path}.{name}"


def _arrow_chunked(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.type == expected.type, path
    assert actual.num_chunks == expected.num_chunks, f"{path}: {actual.num_chunks} chunks"
    for one, other in zip(actual.chunks, expected.chunks, strict=True):
        _arrow_array(comparison, one, other, path)


def _arrow_array(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.type == expected.type, f"{path}: {actual.type} instead of {expected.type}"
    assert len(actual) == len(expected), path
    assert actual.null_count == expected.null_count, path
    actual.validate(full=True)
    assert repr(actual.to_pylist()) == repr(expected.to_pylist()), path
    if hasattr(expected, "dictionary"):
        _arrow_array(comparison, actual.dictionary, expected.dictionary, f"{path}.dictionary")
        assert actual.indices.equals(expected.indices), path


def _arrow_table(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.schema.equals(expected.schema, check_metadata=True), path
    assert actual.num_rows == expected.num_rows, path
    for position, (one, other) in enumerate(zip(actual.columns, expected.columns, strict=True)):
        comparer = _arrow_chunked if hasattr(other, "chunks") else _arrow_array
        comparer(comparison, one, other, f"{path}.column({position})")


def _arrow_other(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.equals(expected), path


def _polars_frame(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.schema == expected.schema, path
    assert actual.shape == expected.shape, path
    for one, other in zip(actual.get_columns(), expected.get_columns(), strict=True):
        _polars_series(comparison, one, other, f"{path}[{other.name!r}]")


def _polars_series(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert (actual.name, actual.dtype) == (expected.name, expected.dtype), path
    assert repr(actual.to_list()) == repr(expected.to_list()), path
    assert actual.flags == expected.flags, f"{path}: {actual.flags} instead of {expected.flags}"


def _sparse(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert (actual.shape, actual.dtype, actual.format) == (expected.shape, expected.dtype, expected.format), path
    comparison.attributes(actual, expected, path)


def _booster(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.save_raw("ubj") == expected.save_raw("ubj"), path
    assert actual.save_config() == expected.save_config(), path
    assert actual.attributes() == expected.attributes(), path


def _anything(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    attributes = _attributes(expected)
    if attributes and type(expected).__module__.partition(".")[0] != "pathlib":
        comparison.compare(_attributes(actual), attributes, f"{path}.__dict__")
        return
    if type(expected).__repr__ is not object.__repr__:
        assert repr(actual) == repr(expected), f"{path}: {actual!r} instead of {expected!r}"
    if type(expected).__eq__ is not object.__eq__ and expected == pickle.loads(pickle.dumps(expected)):
        assert actual == expected, f"{path}: {actual!r} instead of {expected!r}"


def _text(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert repr(actual) == repr(expected), f"{path}: {actual!r} instead of {expected!r}"


def _singleton(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual is expected, path


def _method(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert actual.__func__ is expected.__func__, path
    comparison.compare(actual.__self__, expected.__self__, f"{path}.__self__")


def _generator(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    assert repr(actual.bit_generator.state) == repr(expected.bit_generator.state), path


def _exception(comparison: Comparison, actual: Any, expected: Any, path: str) -> None:
    comparison.compare(actual.args, expected.args, f"{path}.args")
    comparison.attributes(actual, expected, path)
    for name in ("code", "value", "errno", "filename", "name", "start", "reason", "exceptions"):
        assert repr(getattr(actual, name, None)) == repr(getattr(expected, name, None)), f"{path}.{name}"


_COMPARERS: dict[str, Any] = {
    "builtins.list": _sequence,
    "builtins.tuple": _sequence,
    "builtins.dict": _mapping,
    "builtins.mappingproxy": _mapping,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.bytearray": _bytes_like,
    "builtins.memoryview": _memoryview,
    "builtins.BaseException": _exception,
    "builtins.method": _method,
    "decimal.Decimal": _text,
    "collections.deque": _sequence,
    "array.array": _array_array,
    "numpy.ndarray": _ndarray,
    "numpy.generic": _numpy_scalar,
    "numpy.dtype": _dtype,
    "numpy.Generator": _generator,
    "pandas.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.Index": _index,
    "pandas.ExtensionArray": _pandas_values,
    "pandas.Timestamp": _pandas_scalar,
    "pandas.Timedelta": _pandas_scalar,
    "pandas.Period": _pandas_scalar,
    "pandas.Interval": _pandas_scalar,
    "pandas.NaTType": _singleton,
    "pandas.NAType": _singleton,
    "pyarrow.Array": _arrow_array,
    "pyarrow.ChunkedArray": _arrow_chunked,
    "pyarrow.Table": _arrow_table,
    "pyarrow.RecordBatch": _arrow_table,
    "pyarrow.Schema": _arrow_other,
    "pyarrow.Scalar": _arrow_other,
    "pyarrow.Buffer": _arrow_other,
    "polars.DataFrame": _polars_frame,
    "polars.Series": _polars_series,
    "scipy._spbase": _sparse,
    "xgboost.Booster": _booster,
}
