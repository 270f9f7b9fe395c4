"""
A bounded description of a value: for the UI, the command line and the API, which never unpickle anything.

Its cost does not grow with the value, and it runs no code of the user's: values of classes that are not known here are
named by their type.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

from airfreight.codec.refusal import name_of, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_BYTES_MAX = 2048
_TEXT_LENGTH_MAX = 80

# Tried in turn until the preview is small enough.
_WIDTHS = (16, 8, 4, 2, 1)

_Preview = dict[str, Any]

# Where the releases of Airflow 3 keep what hides passwords and the secrets that a task has read.
_MASKERS = (
    "airflow.sdk._shared.secrets_masker",
    "airflow._shared.secrets_masker",
    "airflow.sdk.execution_time.secrets_masker",
)

# Of these, `str` is short, quick, and says all.
_TOLD_BY_STR = frozenset(
    {
        "datetime.date",
        "datetime.datetime",
        "datetime.time",
        "datetime.timedelta",
        "decimal.Decimal",
        "fractions.Fraction",
        "ipaddress.IPv4Address",
        "ipaddress.IPv6Address",
        "uuid.UUID",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "zoneinfo.ZoneInfo",
        "pandas.Interval",
        "pandas.NAType",
        "pandas.NaTType",
        "pandas.Period",
        "pandas.Timedelta",
        "pandas.Timestamp",
    }
)


def describe(value: Any) -> tuple[str, _Preview]:
    """
    Describes a value.

    :returns: its type's name and a preview, at most 2 KiB as JSON; empty when there is nothing short to say.
    """
    name = type_name(value)
    describer = _describer_of(type(value))
    if describer is None:
        return name, {}
    try:
        for width in _WIDTHS:
            preview = _masked(describer(value, width))
            if len(json.dumps(preview, allow_nan=False)) <= _BYTES_MAX:
                return name, preview
    except Exception:  # noqa: BLE001
        # A value half made, or of a library's other version: no reason to fail the task that made it.
        return name, {}
    return name, {}


def _masked(preview: _Preview) -> _Preview:
    for module in _MASKERS:
        redact = getattr(sys.modules.get(module), "redact", None)
        if redact is not None:
            return redact(preview)  # type: ignore[no-any-return]
    return preview


def _describer_of(cls: type) -> Callable[[Any, int], _Preview] | None:
    found = _BUILTIN.get(cls)
    if found is not None:
        return found
    for base in cls.__mro__:
        found = _BY_NAME.get(name_of(base))
        if found is not None:
            return found
    if _is_told_by_str(cls):
        return lambda value, _: {"value": _brief(value)}
    if cls.__module__.startswith("pyarrow.") and hasattr(cls, "null_count"):
        return _arrow_array
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return lambda value, width: _fields(
            zip(cls._fields, tuple.__iter__(value), strict=False), len(cls._fields), width
        )
    if hasattr(cls, "__dataclass_fields__"):
        return lambda value, width: _fields(vars(value).items(), len(vars(value)), width) if _has_dict(value) else {}
    if hasattr(cls, "__pydantic_fields__"):
        return lambda value, width: _fields(vars(value).items(), len(vars(value)), width)
    return None


def _has_dict(value: Any) -> bool:
    return hasattr(value, "__dict__")


def _is_told_by_str(cls: type) -> bool:
    return name_of(cls) in _TOLD_BY_STR


def _brief(value: Any) -> Any:
    """One value within a preview: itself when JSON has it and it is short, else a short text."""
    cls = type(value)
    if value is None or cls is bool:
        return value
    if cls is int:
        return value if value.bit_length() <= 53 else f"an int of {value.bit_length()} bits"
    if cls is float:
        return value if math.isfinite(value) else str(value)
    if cls is str:
        return _clean(value) if len(value) <= _TEXT_LENGTH_MAX else f"{_clean(value[:_TEXT_LENGTH_MAX])}…"
    if cls in (bytes, bytearray, list, tuple, dict, set, frozenset):
        return f"{cls.__name__} of {len(value)}"
    if _is_told_by_str(cls):
        return _clean(str(value)[:_TEXT_LENGTH_MAX])
    if cls.__module__ == "numpy" and cls.__name__ != "ndarray" and hasattr(cls, "dtype"):
        return _brief(value.item()) if cls.__name__ != "void" else "a record"
    if cls.__name__ in ("ndarray", "DataFrame", "Series", "Table", "Tensor"):
        shape = getattr(value, "shape", None)
        return f"{name_of(cls)} {tuple(shape)}" if shape is not None else name_of(cls)
    return name_of(cls)


def _clean(text: str) -> str:
    """Text that every JSON column takes: PostgreSQL's has neither NUL nor halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _labelled(pairs: Iterable[tuple[Any, Any]]) -> _Preview:
    """A mapping of texts, in which labels that are equal as text keep apart."""
    labelled: _Preview = {}
    for label, value in pairs:
        text = first = str(_brief(label))
        count = 1
        while text in labelled:
            count += 1
            text = f"{first} ({count})"
        labelled[text] = value
    return labelled


def _more(preview: _Preview, what: str, total: int, width: int) -> _Preview:
    if total > width:
        preview[f"more_{what}"] = total - width
    return preview


def _value(value: Any, _: int) -> _Preview:
    return {"value": _brief(value)}


def _text(value: str, width: int) -> _Preview:
    length = width * _TEXT_LENGTH_MAX // 4
    return {"length": len(value), "text": _clean(value[:length]) + ("…" if len(value) > length else "")}


def _length(value: Any, _: int) -> _Preview:
    return {"length": len(value)}


def _items(value: Any, width: int) -> _Preview:
    return {"length": len(value), "first": [_brief(part) for part in islice(iter(value), width)]}


def _mapping(value: dict[Any, Any], width: int) -> _Preview:
    first = _labelled((key, _brief(part)) for key, part in islice(value.items(), width))
    return {"length": len(value), "first": first}


def _fields(pairs: Iterable[tuple[Any, Any]], total: int, width: int) -> _Preview:
    first = _labelled((name, _brief(part)) for name, part in islice(iter(pairs), width))
    return _more({"fields": first}, "fields", total, width)


def _array(value: Any, width: int) -> _Preview:
    first = (
        [_brief(part) for part in value[(0,) * (value.ndim - 1)][:width].tolist()] if value.ndim and value.size else []
    )
    return {"shape": list(value.shape), "dtype": str(value.dtype)[:_TEXT_LENGTH_MAX], "first": first}


def _rows(labels: Iterable[Any], by_column: Iterable[list[Any]]) -> list[list[Any]]:
    """Rows of columns; what a column's name says is secret is hidden here, since a row doesn't tell its names."""
    columns = _masked(
        _labelled((label, [_brief(part) for part in parts]) for label, parts in zip(labels, by_column, strict=False))
    )
    return [list(row) for row in zip(*(parts for parts in columns.values() if isinstance(parts, list)), strict=True)]


def _frame(value: Any, width: int) -> _Preview:
    rows, columns = value.shape
    head = value.iloc[: min(width, 3), :width]
    preview: _Preview = {
        "shape": [rows, columns],
        "columns": _labelled(zip(head.columns, (str(dtype)[:60] for dtype in head.dtypes), strict=True)),
        "index": str(_brief(value.index.dtype.name)),
        "rows": _rows(head.columns, (head.iloc[:, position].tolist() for position in range(head.shape[1]))),
    }
    return _more(preview, "columns", columns, width)


def _series(value: Any, width: int) -> _Preview:
    name = value.name if hasattr(value, "name") else None
    preview: _Preview = {"length": len(value), "dtype": str(value.dtype)[:_TEXT_LENGTH_MAX]}
    if name is not None:
        preview["name"] = str(_brief(name))
    preview["first"] = [_brief(part) for part in value[:width].tolist()]
    return preview


def _multi_index(value: Any, width: int) -> _Preview:
    return {"length": len(value), "names": [str(_brief(name)) for name in value.names[:width]]}


def _arrow_table(value: Any, width: int) -> _Preview:
    schema = value.schema
    columns = _labelled(
        (schema.field(at).name, str(schema.field(at).type)[:60]) for at in range(min(width, len(schema)))
    )
    heads = (value.column(at).slice(0, min(width, 3)).to_pylist() for at in range(min(width, len(schema))))
    rows = _rows(schema.names, heads)
    preview: _Preview = {"shape": [value.num_rows, value.num_columns], "columns": columns, "rows": rows}
    return _more(preview, "columns", len(schema), width)


def _arrow_array(value: Any, width: int) -> _Preview:
    first = [_brief(part) for part in value.slice(0, width).to_pylist()]
    return {"length": len(value), "dtype": str(value.type)[:_TEXT_LENGTH_MAX], "first": first}


def _polars_frame(value: Any, width: int) -> _Preview:
    columns = _labelled((name, str(dtype)[:60]) for name, dtype in islice(value.schema.items(), width))
    rows = _rows(value.columns, (series.to_list() for series in value[: min(width, 3), :width].get_columns()))
    preview: _Preview = {"shape": list(value.shape), "columns": columns, "rows": rows}
    return _more(preview, "columns", value.width, width)


def _polars_series(value: Any, width: int) -> _Preview:
    first = [_brief(part) for part in value[:width].to_list()]
    return {"length": len(value), "dtype": str(value.dtype), "name": _brief(value.name), "first": first}


def _sparse(value: Any, _: int) -> _Preview:
    return {"shape": list(value.shape), "dtype": str(value.dtype), "stored": int(value.nnz), "format": value.format}


def _tensor(value: Any, _: int) -> _Preview:
    return {"shape": list(value.shape), "dtype": str(value.dtype)}


def _booster(value: Any, _: int) -> _Preview:
    return {"rounds": value.num_boosted_rounds(), "features": value.num_features()}


def _estimator(value: Any, width: int) -> _Preview:
    settings = {name: part for name, part in vars(value).items() if not name.startswith("_") and not name.endswith("_")}
    preview = _fields(settings.items(), len(settings), width)
    features = vars(value).get("n_features_in_")
    if features is not None:
        preview["features"] = _brief(features)
    return preview


_BUILTIN: Mapping[type, Callable[[Any, int], _Preview]] = {
    type(None): _value,
    bool: _value,
    int: _value,
    float: _value,
    complex: lambda value, _: {"value": str(value)},
    str: _text,
    bytes: _length,
    bytearray: _length,
    list: _items,
    tuple: _items,
    set: _items,
    frozenset: _items,
    dict: _mapping,
}

_BY_NAME: Mapping[str, Callable[[Any, int], _Preview]] = {
    "numpy.ndarray": _array,
    "numpy.generic": _value,
    "pandas.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.MultiIndex": _multi_index,
    "pandas.Index": _series,
    "pandas.ExtensionArray": _series,
    "pyarrow.Table": _arrow_table,
    "pyarrow.RecordBatch": _arrow_table,
    "polars.DataFrame": _polars_frame,
    "polars.Series": _polars_series,
    "scipy.sparse._base._spbase": _sparse,
    "scipy.sparse._base.sparray": _sparse,
    "torch.Tensor": _tensor,
    "xgboost.core.Booster": _booster,
    "sklearn.base.BaseEstimator": _estimator,
}
