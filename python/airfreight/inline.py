"""Which values may stay in an XCom row as they are."""

from __future__ import annotations

import json
import math
import re
from typing import Any

#: Airflow's serde gives these members of a dict a meaning of its own.
_SERDE_MEMBERS = frozenset({"__classname__", "__version__", "__data__", "__id__", "__type", "__var", "__source"})

#: A dict with this member would be taken for one of our rows.
ROW_MEMBER = "airfreight"

#: PostgreSQL's JSON knows no NUL; a lone surrogate is not Unicode.
_UNSTORABLE_TEXT = re.compile("[\0\ud800-\udfff]")

_INTEGER_MAX = 2**63 - 1
_DEPTH_MAX = 32


def is_inline(value: Any, bytes_max: int) -> bool:
    """
    Whether a value is JSON-native, comes back exactly from every database, and is small.

    Only exact types count (an ``IntEnum`` or a NumPy float would come back as something else). A whole float that
    prints with an exponent is not inline, because PostgreSQL makes an integer of it; nor is a negative zero, or a list
    that is in the value twice. The order of a dict's members is the database's, as ever with Airflow.

    :param bytes_max: the most that its JSON may take; at 0 only ``None`` stays.
    """
    if value is None:
        return True
    # Every item takes two bytes or more, so that a large value is given up before it is encoded.
    if type(value) in (str, list, dict) and len(value) > bytes_max:
        return False
    if not _Measure(bytes_max).fits(value, 0):
        return False
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) <= bytes_max


class _Measure:
    """One walk over a value, which ends as soon as it is known to be too large or not exact as JSON."""

    __slots__ = ("_containers", "_room")

    def __init__(self, room: int) -> None:
        self._room = room
        self._containers: set[int] = set()

    def fits(self, value: Any, depth: int) -> bool:
        self._room -= 1
        if self._room < 0 or depth > _DEPTH_MAX:
            return False
        kind = type(value)
        if value is None or kind is bool:
            return True
        if kind is int:
            return bool(abs(value) <= _INTEGER_MAX)
        if kind is float:
            return _is_exact(value)
        if kind is str:
            self._room -= len(value)
            return self._room >= 0 and _UNSTORABLE_TEXT.search(value) is None
        if kind is not list and kind is not dict:
            return False
        if id(value) in self._containers:
            return False  # JSON would make two of it
        self._containers.add(id(value))
        if kind is list:
            return all(self.fits(item, depth + 1) for item in value)
        return (depth > 0 or ROW_MEMBER not in value) and all(
            type(name) is str
            and name not in _SERDE_MEMBERS
            and self.fits(name, depth + 1)
            and self.fits(item, depth + 1)
            for name, item in value.items()
        )


def _is_exact(number: float) -> bool:
    if not math.isfinite(number):
        return False
    if number == 0:
        return math.copysign(1, number) > 0
    return not (number.is_integer() and "e" in repr(number))


def printable(value: Any) -> Any:
    """The same JSON value without what some database refuses: NUL, lone surrogates, NaN and infinities."""
    if isinstance(value, str):
        return _UNSTORABLE_TEXT.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {printable(str(name)): printable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable(item) for item in value]
    return value
