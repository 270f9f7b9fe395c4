"""What stays in a row as plain JSON: exactly what every database gives back as it was."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airfreight.inline import is_inline, printable


class Number(enum.IntEnum):
    ONE = 1


SHARED = [1]


@pytest.mark.parametrize("value", [None, True, 0, -5, 2**63 - 1, 0.1, -1e-7, 1.0, 100000.0, "", "ä🙂", [], {}, [[{}]]])
def test_plain_json_stays(value: Any) -> None:
    assert is_inline(value, 4096)


@pytest.mark.parametrize(
    "value",
    [
        (),
        {1, 2},
        b"",
        1j,
        Number.ONE,
        2**63,
        float("nan"),
        float("inf"),
        1e16,
        -0.0,
        "\0",
        "\ud800",
        {1: 2},
        {"a": ()},
        {"airfreight": 1},
        {"a": {"__classname__": "x"}},
        {"__type": "dict", "__var": {}},
        [SHARED, SHARED],
        type("Text", (str,), {})("x"),
    ],
)
def test_what_json_or_a_database_would_change_does_not(value: Any) -> None:
    assert not is_inline(value, 4096)


def test_only_the_outermost_dict_can_look_like_a_row() -> None:
    assert is_inline([{"airfreight": 1}], 4096)


def test_a_value_that_contains_itself_ends() -> None:
    value: list[Any] = []
    value.append(value)
    assert not is_inline(value, 4096)


@pytest.mark.parametrize(("value", "size"), [("a" * 10, 12), ([1, 22], 6), ({"a": None}, 10), ("ä", 4)])
def test_the_limit_is_in_encoded_bytes(value: Any, size: int) -> None:
    assert is_inline(value, size)
    assert not is_inline(value, size - 1)


def test_only_none_stays_at_zero() -> None:
    assert is_inline(None, 0)
    assert not is_inline(0, 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(JSON)
def test_what_stays_is_small_and_comes_back(value: Any) -> None:
    if is_inline(value, 64):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert len(text.encode()) <= 64
        assert json.loads(text) == value


@given(JSON)
def test_printable_is_what_a_database_takes(value: Any) -> None:
    text = json.dumps(printable(value), allow_nan=False, ensure_ascii=False)
    assert "\0" not in json.loads(json.dumps(text))
    assert "\\u0000" not in text
    text.encode()
