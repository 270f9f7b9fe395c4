"""Goal: no value that nobody thought of comes back changed. Method: hypothesis, through the real store."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.extra import pandas as pdst

from airfreight import codec
from airfreight._store import Store
from codec.equality import assert_same

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary(max_size=2000)
    | st.binary(max_size=200).map(bytearray)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.decimals()
    | st.uuids()
)
KEYS = st.text(max_size=10) | st.integers() | st.booleans() | st.binary(max_size=10) | st.dates()
DTYPES = (
    npst.scalar_dtypes() | npst.unicode_string_dtypes() | npst.byte_string_dtypes() | npst.array_dtypes(max_size=3)
).filter(lambda dtype: dtype.char not in "gG")


@st.composite
def arrays(draw: Any) -> Any:
    """An array, or a view that turns, cuts or reverses it."""
    array = draw(npst.arrays(draw(DTYPES), npst.array_shapes(max_dims=3, min_side=0, max_side=30)))
    for axis in range(array.ndim):
        step = draw(st.sampled_from([1, 1, 2, -1, -3]))
        array = array[(slice(None),) * axis + (slice(None, None, step),)]
    return array.transpose(draw(st.permutations(range(array.ndim))))


VALUES = st.recursive(
    ATOMS | arrays(),
    lambda children: (
        st.lists(children, max_size=6)
        | st.lists(children, max_size=4).map(tuple)
        | st.dictionaries(KEYS, children, max_size=5)
    ),
    max_leaves=25,
)
EVERY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@EVERY
@given(value=VALUES)
def test_any_value_comes_back(store: Store, value: Any) -> None:
    stored = codec.put(store, value)
    assert_same(codec.get(store, stored.name), value)
    store.delete(stored.name)
    small = codec.dumps(value, 2000)
    if small is not None:
        assert len(small) <= 2000
        assert_same(codec.loads(small), value)


@EVERY
@given(value=VALUES)
def test_any_value_is_exact_or_refused_without_pickle(store: Store, value: Any) -> None:
    try:
        stored = codec.put(store, value, allow_pickle=False)
    except codec.UnstorableError as error:
        assert "allow_pickle" in error.message  # noqa: PT017
        return
    assert_same(codec.get(store, stored.name, allow_pickle=False), value)
    store.delete(stored.name)


@EVERY
@given(value=st.lists(VALUES, max_size=6) | st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_container_can_be_read_by_element(store: Store, value: Any) -> None:
    stored = codec.put(store, value, elements=True)
    assert_same(codec.get(store, stored.name), value)
    expected = list(value.items()) if isinstance(value, dict) else value
    for index, element in enumerate(expected):
        assert_same(codec.get_element(store, stored.name, index), element)
    store.delete(stored.name)


@EVERY
@given(
    frame=pdst.data_frames(
        [
            pdst.column("i", dtype=np.int32),
            pdst.column("f", dtype=np.float64),
            pdst.column(
                "t",
                dtype="M8[ns]",
                elements=st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)).map(np.datetime64),
            ),
            pdst.column("s", elements=st.text(st.characters(), max_size=5), dtype=object),
        ],
        index=pdst.range_indexes(max_size=40) | pdst.indexes(dtype=np.int64, max_size=40),
    )
)
def test_any_frame_comes_back(store: Store, frame: pd.DataFrame) -> None:
    stored = codec.put(store, {"frame": frame, "part": frame[::2]})
    value = codec.get(store, stored.name)
    assert_same(value, pickle.loads(pickle.dumps({"frame": frame, "part": frame[::2]}, 5)))
    store.delete(stored.name)


@EVERY
@given(value=VALUES, limit=st.integers(0, 3000))
def test_the_limit_of_a_small_value_is_kept(value: Any, limit: int) -> None:
    data = codec.dumps(value, limit)
    whole = codec.dumps(value, 1 << 30)
    assert whole is not None
    assert data == (whole if len(whole) <= limit else None) or data is None
    assert data is None or len(data) <= limit


@EVERY
@given(value=VALUES)
def test_any_value_is_described_within_bounds(value: Any) -> None:
    import json

    name, preview = codec.describe(value)
    text = json.dumps(preview, allow_nan=False)
    assert len(text) <= 2048
    assert "\\u0000" not in text
    assert name
