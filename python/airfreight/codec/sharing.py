"""Whether pickles made one by one would tear apart what their values share."""

from __future__ import annotations

import datetime
import enum
import sys
import types
from typing import Any

# Nobody can tell whether two of these were one object.
_UNCHANGING = (
    str,
    bytes,
    int,
    float,
    complex,
    tuple,
    frozenset,
    range,
    slice,
    type,
    enum.Enum,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MappingProxyType,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
)

# The same of these, by module so that nothing is imported for it. Arrow's data can't be changed at all.
_UNCHANGING_MODULES = (
    "_cython",
    "decimal",
    "fractions",
    "ipaddress",
    "numpy.dtypes",
    "pandas._libs.tslibs",
    "pathlib",
    "pyarrow.lib",
    "re",
    "uuid",
    "zoneinfo",
)


class Shared:
    """What values pickled so far consist of."""

    def __init__(self, whole: Any) -> None:
        # Holds what it has seen, or the number of something short-lived might come again.
        self._seen: dict[int, Any] = {id(whole): whole}

    def grows_by(self, memo: dict[int, tuple[int, Any]]) -> bool:
        """
        Adds what another pickle consists of.

        :param memo: the pickler's memo: numbers of objects, each with its place and the object.
        :returns: whether it shares anything that can be changed with those before.
        """
        seen = self._seen
        index, *others = _pandas_types()
        inner: set[int] = set()
        for _, part in memo.values():
            # pandas pickles with each frame a list that belongs to the class and so to all frames.
            inner.add(id(getattr(type(part), "_metadata", None)))
            if isinstance(part, index):
                # Frames that were split share their columns; what an index is made of is not to be changed either.
                inner.update(map(id, _insides(part)))
        for number, (_, part) in memo.items():
            if isinstance(part, (*_UNCHANGING, index, *others)):
                continue
            if type(part).__module__.startswith(_UNCHANGING_MODULES):
                continue
            if number in seen and number not in inner:
                return True
            seen[number] = part
        return False


def _pandas_types() -> list[Any]:
    """The unchanging types of pandas, its index first; their module's name says nothing, since pandas hides it."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return [()]
    return [pandas.Index, pandas.api.extensions.ExtensionDtype, pandas.Interval, pandas.Period]


def _insides(index: Any) -> list[Any]:
    data = getattr(index, "_data", None)
    inside = [data, getattr(data, "_ndarray", None), *getattr(data, "__dict__", {}).values()]
    if getattr(index, "_levels", None) is not None:
        inside += [index._levels, index._codes, *index._codes]
    return inside
