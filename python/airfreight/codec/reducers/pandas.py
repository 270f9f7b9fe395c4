"""
pandas: Arrow-backed arrays, which it would copy into one chunk, and frames, indexes, dates and dtypes, which it
would check again.

What is read back needs neither. In a process that was just forked, every function that runs for the first time costs
copied pages, and half of a frame's way back was making its two indexes and looking through itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    import pandas as pd
    from pandas.core.arrays.arrow import ArrowExtensionArray

    if cls is pd.DataFrame:
        return reduce_frame
    if cls is pd.arrays.DatetimeArray or cls is pd.arrays.TimedeltaArray:
        return reduce_times
    if cls is pd.StringDtype:
        return reduce_string_dtype
    if issubclass(cls, ArrowExtensionArray) and cls.__module__.startswith("pandas."):
        return reduce_arrow
    if cls is pd.Index:
        return reduce_index
    if cls is pd.RangeIndex:
        return reduce_range
    return None


def reduce_frame(frame: Any) -> Any:
    """Reduces a frame to a call, unless a part of it may refer to the frame itself; then it takes pandas' two steps."""
    try:
        blocks, axes = frame._mgr.blocks, frame._mgr.axes
        parts = [*(block.values for block in blocks), *axes]
        if not frame.attrs and all(map(_holds_no_objects, parts)):
            return _rebuild_frame, (type(frame), type(frame._mgr), blocks, axes, frame.flags.allows_duplicate_labels)
    except AttributeError:
        # Another pandas than we know.
        pass
    return frame.__reduce_ex__(5)


def _holds_no_objects(values: Any) -> bool:
    """Whether an array or index is nothing but numbers, dates or text."""
    dtype = values.dtype
    return dtype.kind in "biufcmM" or type(dtype).__name__ == "StringDtype"


def _rebuild_frame(cls: Any, manager: Any, blocks: Any, axes: Any, allows_duplicate_labels: bool) -> Any:
    """Part of the object format."""
    try:
        frame = cls._from_mgr(manager(blocks, axes, False), axes)
    except (AttributeError, TypeError):
        frame = cls(manager(blocks, axes))
    if not allows_duplicate_labels:
        frame.flags.allows_duplicate_labels = False
    return frame


def reduce_times(array: Any) -> Any:
    """Reduces dates or differences of them with their dtype only where their numbers don't say it."""
    reduced = array.__reduce_ex__(5)
    try:
        dtype, values, *rest = reduced[2]
        return _rebuild_times, (type(array), values, None if dtype == values.dtype else dtype, *rest)
    except (AttributeError, IndexError, TypeError, ValueError):
        # Another pandas than we know.
        return reduced


def _rebuild_times(cls: Any, values: Any, dtype: Any, *rest: Any) -> Any:
    """Part of the object format."""
    array = cls.__new__(cls)
    array.__setstate__((values.dtype if dtype is None else dtype, values, *rest))
    return array


def reduce_string_dtype(dtype: Any) -> Any:
    """Reduces the dtype of text, whose constructor asks NumPy whether NaN is NaN."""
    if not hasattr(dtype, "__setstate__"):
        return dtype.__reduce_ex__(5)
    missing = None if isinstance(dtype.na_value, float) else dtype.na_value
    return _rebuild_string_dtype, (type(dtype), dtype.storage, missing)


def _rebuild_string_dtype(cls: Any, storage: str, missing: Any) -> Any:
    """Part of the object format."""
    dtype = cls.__new__(cls)
    # The one that pandas compares with by identity.
    missing = sys.modules["numpy"].nan if missing is None else missing
    dtype.__setstate__({"storage": storage, "_na_value": missing})
    return dtype


def reduce_arrow(array: Any) -> Any:
    """Reduces an Arrow-backed array with its chunks as they are."""
    state = dict(array.__dict__)
    return _rebuild_arrow, (type(array), state.pop("_pa_array"), state)


def _rebuild_arrow(cls: Any, chunks: Any, state: dict[str, Any]) -> Any:
    """Part of the object format."""
    array = cls.__new__(cls)
    array.__dict__.update(state, _pa_array=chunks)
    return array


def reduce_index(index: Any) -> Any:
    """Reduces a plain index; its data are what pandas itself would pickle."""
    return _rebuild_index, (index._data, index.name)


def _rebuild_index(data: Any, name: Any) -> Any:
    """Part of the object format."""
    import pandas as pd

    index: Any = pd.Index
    try:
        return index._simple_new(data, name)
    except (AttributeError, TypeError):
        # Another pandas than we know.
        return index(data, name=name, dtype=data.dtype, copy=False)


def reduce_range(index: Any) -> Any:
    """Reduces an index of equally spaced numbers."""
    return _rebuild_range, (index.start, index.stop, index.step, index.name)


def _rebuild_range(start: int, stop: int, step: int, name: Any) -> Any:
    """Part of the object format."""
    import pandas as pd

    index: Any = pd.RangeIndex
    try:
        return index._simple_new(range(start, stop, step), name)
    except (AttributeError, TypeError):
        return index(start, stop, step, name=name)
