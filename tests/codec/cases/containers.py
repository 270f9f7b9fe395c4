"""Containers: nested, shared, cyclic, empty, large."""

from __future__ import annotations

import collections
import datetime as dt
from typing import Any, NamedTuple


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Names(list[str]):
    """A list with an attribute."""

    owner: str


class Counting(dict[str, int]):
    pass


def _shared() -> Any:
    inner = [1, 2]
    return {"a": inner, "b": inner, "c": (inner, inner)}


def _cycle() -> Any:
    value: list[Any] = [1]
    value.append(value)
    value.append({"self": value})
    return value


def _cycle_dict() -> Any:
    value: dict[str, Any] = {}
    value["me"] = value
    return value


def _cycle_tuple() -> Any:
    inner: list[Any] = []
    value = (inner, 1)
    inner.append(value)
    return value


def _deep() -> Any:
    value: Any = "bottom"
    for _ in range(150):
        value = [value]
    return value


def _names() -> Names:
    names = Names(["a", "b"])
    names.owner = "somebody"
    return names


def _shared_long() -> Any:
    data, text, array = b"x" * 400_000, "é" * 300_000, bytearray(500_000)
    return [data, text, array, {"again": [array, data, text]}]


def _default_dict() -> Any:
    value = collections.defaultdict(list)
    value["a"].append(1)
    return value


CASES = {
    "empty_list": list,
    "empty_tuple": tuple,
    "empty_dict": dict,
    "empty_set": set,
    "empty_frozenset": frozenset,
    "list": lambda: [1, "a", None, 2.5, b"x"],
    "tuple": lambda: (1, (2, (3,))),
    "dict_order": lambda: {"z": 1, "a": 2, "m": 3},
    "dict_keys": lambda: {1: "int", 1.5: "float", (1, 2): "tuple", None: "none", b"b": "bytes", dt.date.min: "date"},
    "bool_and_int": lambda: [True, 1, 1.0],
    "set": lambda: {1, "a", (2, 3)},
    "frozenset": lambda: frozenset({frozenset({1}), 2}),
    "named_tuple": lambda: Point(1.5, 2.5),
    "named_tuples": lambda: [Point(i, i) for i in range(10)],
    "list_subclass": _names,
    "dict_subclass": lambda: Counting(a=1),
    "ordered_dict": lambda: collections.OrderedDict([("b", 1), ("a", 2)]),
    "default_dict": _default_dict,
    "counter": lambda: collections.Counter("mississippi"),
    "deque": lambda: collections.deque([1, 2, 3], maxlen=5),
    "chain_map": lambda: collections.ChainMap({"a": 1}, {"b": 2}),
    "shared": _shared,
    "cycle": _cycle,
    "cycle_dict": _cycle_dict,
    "cycle_tuple": _cycle_tuple,
    "deep": _deep,
    "same_str": lambda: ["again"] * 100,
    "many_ints": lambda: list(range(100_000)),
    "many_floats": lambda: [i / 7 for i in range(50_000)],
    "many_strs": lambda: [f"text {i}" for i in range(50_000)],
    "many_dicts": lambda: [{"id": i, "name": f"n{i}"} for i in range(5_000)],
    "many_dates": lambda: [dt.date.fromordinal(i + 700_000) for i in range(2_000)],
    "long_parts": _shared_long,
    "long_between": lambda: [list(range(30_000)), "z" * 300_000, list(range(30_000)), b"q" * 262_144, 1],
    "many_long": lambda: {i: bytes([i]) * 300_000 for i in range(12)},
    "one_kilobyte": lambda: {f"key_{i}": i * 1.5 for i in range(60)},
}
