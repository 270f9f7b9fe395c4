"""xgboost: a booster's trees as one buffer; a DMatrix is refused, since it can't be taken out of its library."""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import xgboost

if TYPE_CHECKING:
    from collections.abc import Callable


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    return reduce_booster if cls is xgboost.Booster else None


def reduce_booster(booster: Any) -> Any:
    """Reduces a booster with its trees out of band."""
    state = dict(booster.__getstate__())
    trees = state.pop("handle", None)
    if trees is None:
        return booster.__reduce_ex__(5)
    return _rebuild_booster, (type(booster), PickleBuffer(trees), state)


def _rebuild_booster(cls: Any, trees: Any, state: dict[str, Any]) -> Any:
    """Part of the object format."""
    booster = cls.__new__(cls)
    # The library reads it through a writable buffer.
    booster.__setstate__({**state, "handle": bytearray(trees) if memoryview(trees).readonly else trees})
    return booster
