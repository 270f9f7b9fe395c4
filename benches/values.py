"""The values that travel, made alike in every process that names one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ONE_HUNDRED_MB = 100_000_000


@dataclass(frozen=True)
class Case:
    """
    A value by name: ``kind`` says how it is made, ``nbytes`` about how large it is.

    :param kind: ``dict``, ``array`` or one of the frames.
    :param label: what the tables call it.
    """

    name: str
    kind: str
    nbytes: int
    label: str

    @property
    def is_frame(self) -> bool:
        return self.kind.startswith("frame")

    @property
    def is_large(self) -> bool:
        """Large enough for memory to be worth measuring."""
        return self.nbytes >= ONE_HUNDRED_MB


CASES = (
    Case("dict_1kb", "dict", 1_000, "dict, 1 KB"),
    Case("array_1mb", "array", 1_000_000, "float64 array, 1 MB"),
    Case("array_100mb", "array", ONE_HUNDRED_MB, "float64 array, 100 MB"),
    Case("array_1gb", "array", 1_000_000_000, "float64 array, 1 GB"),
    Case("frame_numeric", "frame_numeric", ONE_HUNDRED_MB, "frame, numbers, 100 MB"),
    Case("frame_dates", "frame_dates", ONE_HUNDRED_MB, "frame, dates, 100 MB"),
    Case("frame_strings", "frame_strings", ONE_HUNDRED_MB, "frame, pandas strings, 100 MB"),
    Case("frame_objects", "frame_objects", ONE_HUNDRED_MB, "frame, object strings, 100 MB"),
)

#: The same kinds, small: proves in seconds that every path still works.
QUICK_CASES = tuple(
    Case(name, kind, nbytes, label)
    for name, kind, nbytes, label in (
        ("dict_1kb", "dict", 1_000, "dict, 1 KB"),
        ("array_1mb", "array", 1_000_000, "float64 array, 1 MB"),
        ("frame_numeric_1mb", "frame_numeric", 1_000_000, "frame, numbers, 1 MB"),
        ("frame_dates_1mb", "frame_dates", 1_000_000, "frame, dates, 1 MB"),
        ("frame_strings_1mb", "frame_strings", 1_000_000, "frame, pandas strings, 1 MB"),
        ("frame_objects_1mb", "frame_objects", 1_000_000, "frame, object strings, 1 MB"),
    )
)


def make(kind: str, nbytes: int) -> Any:
    """A value of that kind and about that size; the same one each time."""
    return _MAKERS[kind](nbytes)


def touch(value: Any) -> float:
    """Reads all of a value, as a task would that computes something with it."""
    import numpy as np

    if isinstance(value, dict):
        return float(len(repr(value)))
    if isinstance(value, np.ndarray):
        return float(value.sum())
    total = 0.0
    for position in range(value.shape[1]):
        column = value.iloc[:, position]
        if column.dtype == object:
            total += sum(map(len, column.to_numpy()))
        elif column.dtype.kind in "fi":
            total += float(column.to_numpy().sum())
        elif column.dtype.kind == "M":
            total += float(column.to_numpy(dtype="datetime64[us]").view("int64").sum())
        else:
            total += float(column.str.len().sum())
    return total


def digest(value: Any) -> str:
    """A checksum of an array's numbers, or of a frame's, column by column."""
    import numpy as np

    columns = [value] if isinstance(value, np.ndarray) else [value.iloc[:, index] for index in range(value.shape[1])]
    checksum = hashlib.sha256()
    for column in columns:
        checksum.update(np.ascontiguousarray(column).view(np.uint8))
    return checksum.hexdigest()


def difference(expected: Any, found: Any) -> str | None:
    """What a store changed, in a few words; ``None`` when the value is exactly the one that was put."""
    import numpy as np
    import pandas as pd

    if type(expected) is not type(found):
        return f"{type(expected).__name__} became {type(found).__module__}.{type(found).__name__}"
    if isinstance(expected, np.ndarray):
        if expected.dtype != found.dtype:
            return f"dtype {expected.dtype} became {found.dtype}"
        return None if np.array_equal(expected, found) else "other numbers"
    if isinstance(expected, pd.DataFrame):
        changed = [
            f"{name}: {before} became {after}"
            for name, before, after in zip(expected.columns, expected.dtypes, found.dtypes, strict=False)
            if before != after
        ]
        if changed:
            return "dtype of " + ", ".join(changed[:2])
        try:
            pd.testing.assert_frame_equal(expected, found, check_index_type=True)
        except AssertionError as error:
            return " ".join(str(error).split())[:120]
        return None
    return None if expected == found else "other contents"


def _dict(nbytes: int) -> dict[str, Any]:
    value: dict[str, Any] = {
        "dag_id": "flights",
        "model": {"name": "gradient boosting", "depth": 8, "rate": 0.1, "exact": True, "seed": None},
        "airports": ["EWR", "JFK", "LGA"],
    }
    # About 20 bytes an entry, pickled.
    value["scores"] = {f"fold_{number:03d}": number / 7 for number in range(max(1, (nbytes - 200) // 20))}
    return value


def _array(nbytes: int) -> Any:
    import numpy as np

    return np.random.default_rng(2013).random(nbytes // 8)


def _frame_numeric(nbytes: int) -> Any:
    import numpy as np
    import pandas as pd

    rows = nbytes // 80
    random = np.random.default_rng(2013)
    columns: dict[str, Any] = {f"feature_{number}": random.random(rows) for number in range(7)}
    columns |= {f"count_{number}": random.integers(0, 1_000_000, rows) for number in range(3)}
    return pd.DataFrame(columns)


def _frame_dates(nbytes: int) -> Any:
    import numpy as np
    import pandas as pd

    rows = nbytes // 32
    minutes = np.random.default_rng(2013).integers(0, 525_600, rows)
    departure = np.datetime64("2013-01-01T00:00", "us") + minutes.astype("timedelta64[m]")
    return pd.DataFrame(
        {
            "departure": departure,
            "arrival": departure + np.timedelta64(97, "m"),
            "scheduled": departure - np.timedelta64(11, "m"),
            "departure_utc": pd.DatetimeIndex(departure).tz_localize("UTC"),
        }
    )


def _arrow_strings(nbytes: int) -> dict[str, Any]:
    """Four columns of strings that are all different; their text and offsets come to ``nbytes``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.large_string()
    # 20 characters of prefix, 10 of number, 4 of ending and 8 of offset: 42 bytes a string.
    rows = nbytes // 168
    numbers = pa.array(range(10**9, 10**9 + rows)).cast(text)
    prefixes = ("passenger-of-flight-", "aircraft-registered-", "gate-and-terminal-at", "remark-written-by-no")
    return {
        prefix.split("-")[0]: pc.binary_join_element_wise(
            pa.scalar(prefix, text), numbers, pa.scalar("/end", text), pa.scalar("", text)
        )
        for prefix in prefixes
    }


def _frame_strings(nbytes: int) -> Any:
    import pandas as pd

    return pd.DataFrame({name: pd.Series(column, dtype="str") for name, column in _arrow_strings(nbytes).items()})


def _frame_objects(nbytes: int) -> Any:
    import pandas as pd

    columns = {name: pd.Series(column.to_pylist(), dtype=object) for name, column in _arrow_strings(nbytes).items()}
    return pd.DataFrame(columns)


_MAKERS: dict[str, Callable[[int], Any]] = {
    "dict": _dict,
    "array": _array,
    "frame_numeric": _frame_numeric,
    "frame_dates": _frame_dates,
    "frame_strings": _frame_strings,
    "frame_objects": _frame_objects,
}
