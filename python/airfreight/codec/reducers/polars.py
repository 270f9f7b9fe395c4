"""polars: frames and series as Arrow, which shares their memory; polars' own pickle is a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    if cls is pl.DataFrame:
        return reduce_frame
    if cls is pl.Series:
        return reduce_series
    return None


def reduce_frame(frame: Any) -> Any:
    """Reduces a frame; what Arrow can't hold, or would hold with much more than the frame uses, goes polars' way."""
    table = _to_arrow(frame)
    if table is None:
        return frame.__reduce_ex__(5)
    return _rebuild_frame, (table, [_order(series) for series in frame.get_columns()])


def reduce_series(series: Any) -> Any:
    """Reduces a series, as a frame: only a table's schema tells an Enum from a Categorical."""
    table = _to_arrow(series.to_frame())
    if table is None:
        return series.__reduce_ex__(5)
    return _rebuild_series, (table, [_order(series)])


def _to_arrow(frame: Any) -> Any:
    try:
        table = frame.to_arrow(compat_level=pl.CompatLevel.newest())
        # Strings are views of memory that a slice shares with its parent.
        if table.nbytes > 2 * frame.estimated_size() + (1 << 20):
            return None
        # A type may have an Arrow form that doesn't lead back to it.
        empty: Any = pl.from_arrow(table.slice(0, 0))
        if empty.schema != frame.schema:
            return None
    except Exception:  # noqa: BLE001
        # No pyarrow here, Python objects, 128-bit integers, …
        return None
    return table


def _order(series: Any) -> bool | None:
    """Whether a series is known to be sorted: descending, ascending (false), or not known."""
    flags = series.flags
    return True if flags["SORTED_DESC"] else False if flags["SORTED_ASC"] else None


def _rebuild_frame(table: Any, orders: list[bool | None]) -> Any:
    """Part of the object format."""
    frame: Any = pl.from_arrow(table, rechunk=False)
    if all(order is None for order in orders):
        return frame
    columns = frame.get_columns()
    return pl.DataFrame(
        [
            column if order is None else column.set_sorted(descending=order)
            for column, order in zip(columns, orders, strict=True)
        ]
    )


def _rebuild_series(table: Any, orders: list[bool | None]) -> Any:
    """Part of the object format."""
    return _rebuild_frame(table, orders).to_series()
