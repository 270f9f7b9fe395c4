"""Goal: the preview says what a value is, in bounded time and space, and tells no secrets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from airfreight import codec
from codec.cases import EXACT
from codec.cases.classes import Model, Row


class Hostile:
    """Nothing of it may run for a preview."""

    def __repr__(self) -> str:
        raise AssertionError("the preview ran repr")

    __str__ = __repr__

    def __len__(self) -> int:
        raise AssertionError("the preview ran len")

    def __iter__(self) -> Any:
        raise AssertionError("the preview ran iter")


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise AssertionError("the preview ran items")


FRAME = pd.DataFrame({"n": range(5000), "t": pd.date_range("2024", periods=5000, freq="h"), "s": ["é"] * 5000})

EXPECTED: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "number": (5, "int", {"value": 5}),
    "nan": (float("nan"), "float", {"value": "nan"}),
    "huge number": (2**200, "int", {"value": "an int of 201 bits"}),
    "list": ([1, "a", [2, 3]], "list", {"length": 3, "first": [1, "a", "list of 2"]}),
    "dict": ({"a": FRAME}, "dict", {"length": 1, "first": {"a": "pandas.DataFrame (5000, 3)"}}),
    "array": (np.ones((3, 4)), "numpy.ndarray", {"shape": [3, 4], "dtype": "float64", "first": [1.0] * 4}),
    "frame": (
        FRAME,
        "pandas.DataFrame",
        {
            "shape": [5000, 3],
            "columns": {"n": "int64", "t": str(FRAME["t"].dtype), "s": str(FRAME["s"].dtype)},
            "index": "int64",
            "rows": [[0, "2024-01-01 00:00:00", "é"], [1, "2024-01-01 01:00:00", "é"], [2, "2024-01-01 02:00:00", "é"]],
        },
    ),
    "table": (
        pa.table({"a": [1, None]}),
        "pyarrow.Table",
        {"shape": [2, 1], "columns": {"a": "int64"}, "rows": [[1], [None]]},
    ),
    "polars": (
        pl.DataFrame({"a": [1.5]}),
        "polars.DataFrame",
        {"shape": [1, 1], "columns": {"a": "Float64"}, "rows": [[1.5]]},
    ),
    "dataclass": (Row("r", [1.0]), "codec.cases.classes.Row", {"fields": {"name": "r", "values": "list of 1"}}),
    "pydantic": (
        Model(name="m"),
        "codec.cases.classes.Model",
        {"fields": {"name": "m", "tags": "list of 0", "inner": None}},
    ),
    "bytes": (b"secret?", "bytes", {"length": 7}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_it_says_what_a_value_is(name: str) -> None:
    value, type_name, preview = EXPECTED[name]
    assert codec.describe(value) == (type_name, preview)


@pytest.mark.parametrize("name", EXACT)
def test_it_is_short_json(name: str) -> None:
    _, preview = codec.describe(EXACT[name]())
    text = json.dumps(preview, allow_nan=False)
    assert len(text) <= 2048
    assert "\\u0000" not in text, "PostgreSQL's JSON has no NUL"
    assert json.dumps(preview, ensure_ascii=False).encode(), "nor halves of characters"


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: [x], lambda x: {"k": x}, lambda x: Row("r", x), lambda x: {x: 1}]
)
def test_it_runs_no_code_of_the_value(wrap: Any) -> None:
    for hostile in (Hostile(), HostileDict(a=1)):
        if isinstance(hostile, dict) and wrap(1) == {1: 1}:
            continue
        name, _ = codec.describe(wrap(hostile))
        assert name


def test_it_stays_short_for_what_is_wide_and_long() -> None:
    wide = pd.DataFrame(np.zeros((3, 3000)), columns=[f"a column with a long name {i} " * 9 for i in range(3000)])
    for value in (wide, {f"key {i}" * 50: "v" * 10_000 for i in range(5000)}, "\0" * 10**6, [["x" * 10**5] * 50] * 50):
        _, preview = codec.describe(value)
        assert 0 < len(json.dumps(preview)) <= 2048


def test_duplicate_labels_keep_apart() -> None:
    _, preview = codec.describe(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert preview["columns"] == {"a": "int64", "a (2)": "int64"}


def test_airflows_masker_hides_secrets() -> None:
    masker = pytest.importorskip("airflow.sdk.log")
    masker.mask_secret("hunter2-and-more")
    for value in (
        {"password": "x1y2z3", "note": "it is hunter2-and-more"},
        ["hunter2-and-more"],
        pd.DataFrame({"password": ["x1y2z3"], "note": ["hunter2-and-more"]}),
        "hunter2-and-more",
    ):
        text = json.dumps(codec.describe(value)[1])
        assert "hunter2" not in text
        assert "x1y2z3" not in text
        assert "***" in text
