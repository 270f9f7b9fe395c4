"""Goal: a mapped task reads its own element alone, and the whole container still comes back exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from airfreight import codec
from airfreight._store import Store
from codec.equality import assert_same


def _frames() -> list[pd.DataFrame]:
    frame = pd.DataFrame(
        {"a": np.arange(3000.0), "t": pd.date_range("2024", periods=3000), "s": ["x", "yy", "z"] * 1000}
    )
    return [frame.iloc[i * 1000 : i * 1000 + 1000] for i in range(3)]


APART: dict[str, Any] = {
    "numbers": lambda: [1, 2.5, None, True],
    "tuple": lambda: (1, "a", [3]),
    "dict": lambda: {"a": [1], 2: {"b": np.arange(1000)}, (3, 4): "c"},
    "arrays": lambda: [np.arange(i * 500.0) for i in range(6)],
    "same texts": lambda: ["again"] * 5,
    "same dtype": lambda: [np.arange(3), np.arange(4)],
    "frames": _frames,
    "series": lambda: [frame["s"] for frame in _frames()],
    "long texts": lambda: ["x" * 300_000, b"y" * 400_000, {"z": "z" * 500_000}],
    "records": lambda: [{"id": i, "name": f"n{i}", "values": [i]} for i in range(1000)],
}


@pytest.mark.parametrize("name", APART)
def test_elements_are_read_one_by_one(store: Store, name: str) -> None:
    value = APART[name]()
    stored = codec.put(store, value, elements=True)
    assert stored.elements == len(value)
    assert store.describe(stored.name)["metadata"]["elements"] == len(value)
    assert_same(codec.get(store, stored.name), value)
    expected = list(value.items()) if isinstance(value, dict) else list(value)
    for index, element in enumerate(expected):
        assert_same(codec.get_element(store, stored.name, index), element)
        assert_same(codec.get_element(store, stored.name, index - len(expected)), element)
    for index in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            codec.get_element(store, stored.name, index)


def _shared_list() -> Any:
    inner = [1]
    return [inner, {"also": inner}]


def _shared_array() -> Any:
    array = np.arange(1000)
    return {"a": array, "b": array}


def _shared_frame() -> Any:
    frame = pd.DataFrame({"a": [1]})
    return [frame, frame]


def _holds_itself() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


@pytest.mark.parametrize("make", [_shared_list, _shared_array, _shared_frame, _holds_itself])
def test_what_elements_share_stays_shared(store: Store, make: Any) -> None:
    value = make()
    before = store.stat()["objects"]
    stored = codec.put(store, value, elements=True)
    assert stored.elements is None
    assert store.stat()["objects"] == before + 1
    assert_same(codec.get(store, stored.name), value)
    expected = list(value.items()) if isinstance(value, dict) else value
    assert_same(codec.get_element(store, stored.name, 1), expected[1])


@pytest.mark.parametrize("value", [[], {}, {1, 2}, "text", 5, pd.Series([1, 2])])
def test_other_values_are_one_pickle(store: Store, value: Any) -> None:
    stored = codec.put(store, value, elements=True)
    assert stored.elements is None
    assert_same(codec.get(store, stored.name), value)


def test_an_element_does_not_map_the_others_into_memory(store: Store) -> None:
    stored = codec.put(store, [np.full(2_000_000, i) for i in range(5)], elements=True)
    element = codec.get_element(store, stored.name, 3)
    assert element.nbytes * 5 <= stored.nbytes
    assert (element == 3).all()
