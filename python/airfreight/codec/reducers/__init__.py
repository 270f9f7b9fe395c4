"""
Reducers for what pickle copies needlessly, gets wrong, or should refuse: one module per library.

Each module has ``reducer_for(cls)``, called with the types of its library only, so the library is there already. No
library is imported for one that isn't used.

A reducer returns what ``__reduce_ex__`` would. The functions that it names for rebuilding are part of the object
format: stored objects refer to them by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What every frame is read with is loaded at once, and not by the first get.
from airfreight.codec.reducers import builtin, pandas  # noqa: F401
from airfreight.codec.refusal import refusing_reducer_for

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow", "torch", "xgboost"})


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """Finds the reducer for a type; ``None`` where pickle's own way is right."""
    refusing = refusing_reducer_for(cls)
    if refusing is not None:
        return refusing
    library = cls.__module__.partition(".")[0]
    if library in _LIBRARIES:
        found = import_module(f"airfreight.codec.reducers.{library}").reducer_for(cls)
    else:
        found = builtin.reducer_for(cls)
    return found  # type: ignore[no-any-return]
