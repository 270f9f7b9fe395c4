"""pandas: Arrow-backed arrays, which it would copy into one chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    from pandas.core.arrays.arrow import ArrowExtensionArray

    if issubclass(cls, ArrowExtensionArray) and cls.__module__.startswith("pandas."):
        return reduce_arrow
    return None


def reduce_arrow(array: Any) -> Any:
    """Reduces an Arrow-backed array with its chunks as they are."""
    state = dict(array.__dict__)
    return _rebuild_arrow, (type(array), state.pop("_pa_array"), state)


def _rebuild_arrow(cls: Any, chunks: Any, state: dict[str, Any]) -> Any:
    """Part of the object format."""
    array = cls.__new__(cls)
    array.__dict__.update(state, _pa_array=chunks)
    return array
