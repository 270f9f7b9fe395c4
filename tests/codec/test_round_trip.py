"""Goal: every value comes back as it was. Method: put and get each case, here and in another process."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.core.generic import NDFrame

from airfreight import codec
from airfreight._store import Store
from airfreight.errors import InvalidError
from codec.cases import EXACT
from codec.equality import assert_same


@pytest.mark.parametrize("name", EXACT)
def test_a_value_comes_back_as_it_was(store: Store, name: str) -> None:
    value = EXACT[name]()
    stored = codec.put(store, value)
    assert_same(codec.get(store, stored.name), value)
    assert len(json.dumps(stored.preview)) <= 2048
    assert store.describe(stored.name)["metadata"]["preview"] == stored.preview
    store.delete(stored.name)


@pytest.mark.parametrize("name", EXACT)
def test_a_small_value_comes_back_from_memory(name: str) -> None:
    value = EXACT[name]()
    data = codec.dumps(value, 100_000)
    if data is not None:
        assert len(data) <= 100_000
        assert_same(codec.loads(data), value)


def test_every_value_comes_back_in_another_process(store: Store) -> None:
    """The other process makes each value itself, and compares it with what it reads."""
    names = {name: codec.put(store, make()).name for name, make in EXACT.items()}
    program = (
        "import json, sys\n"
        "from airfreight import codec\n"
        "from airfreight._store import Store\n"
        "from codec.cases import EXACT\n"
        "from codec.equality import assert_same\n"
        "store = Store(sys.argv[1], create=False)\n"
        "for name, stored in json.load(sys.stdin).items():\n"
        "    assert_same(codec.get(store, stored), EXACT[name]())\n"
        "    print(name)\n"
    )
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program, store.path],
        input=json.dumps(names),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == list(names)
    for name in names.values():
        store.delete(name)


@pytest.mark.parametrize("kind", ["Index", "RangeIndex"])
def test_indexes_come_back_to_a_pandas_that_makes_them_otherwise(
    store: Store, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What takes its shortcut is pandas' own business, and may take something else in another version."""
    index: Any = getattr(pd, kind)
    given = ([3, 1, 2],) if kind == "Index" else (1, 9, 2)
    frame = pd.DataFrame({"a": [1.0] * len(index(*given))}, index=index(*given, name="of"))
    stored = codec.put(store, frame)
    shortcut, used = index._simple_new, []

    def other(*args: Any, **named: Any) -> Any:
        if len(args) == 2 and not named:
            used.append(args)
            raise TypeError("another one")
        return shortcut(*args, **named)

    monkeypatch.setattr(index, "_simple_new", staticmethod(other))
    assert_same(codec.get(store, stored.name), frame)
    assert used


def test_frames_come_back_to_a_pandas_that_makes_them_otherwise(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}).set_flags(allows_duplicate_labels=False)
    stored = codec.put(store, frame)
    with monkeypatch.context() as other:
        other.delattr(NDFrame, "_from_mgr")
        got = codec.get(store, stored.name)
    assert_same(got, frame)


def test_a_frame_that_refers_to_itself_comes_back_as_one(store: Store) -> None:
    frame = pd.DataFrame({"a": np.arange(500.0), "of": pd.Series([None] * 500, dtype=object)})
    frame.at[3, "of"] = [frame]
    got = codec.get(store, codec.put(store, frame).name)
    assert got.at[3, "of"][0] is got

    frame = pd.DataFrame({"a": np.arange(500.0)})
    # An assignment would copy it.
    frame.attrs["of"] = [frame]
    got = codec.get(store, codec.put(store, frame).name)
    assert got.attrs["of"][0] is got


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", ">f8", "q", "D", "?", "S3", "U2", "M8[ns]", "m8[25s]"])
@pytest.mark.parametrize("shape", [(1000,), (300, 7), (70_000, 1), (5, 6, 70), (2, 3, 4, 50)])
def test_a_plain_array_needs_no_unpickler(store: Store, shape: tuple[int, ...], dtype: str, order: Any) -> None:
    array = np.ones(shape, dtype=np.int8).astype(dtype, order=order)
    stored = store.get(codec.put(store, array).name)
    assert_same(stored.array(np.ndarray), pickle.loads(stored.stream, buffers=stored.buffers))
    assert_same(stored.array(np.ndarray), array)
    stored.array(np.ndarray)[...] = 0
    assert_same(codec.get(store, stored.name), array)


@pytest.mark.parametrize(
    "value",
    [
        np.ones((2, 3, 4, 5, 6)),
        np.arange(10),
        np.array([None] * 300),
        np.ones(300, dtype=[("a", "f8"), ("b", "i4")]),
        np.ma.masked_array(np.ones(300)),
        [np.ones(300)],
        pd.DataFrame(np.ones((300, 2))),
        b"numpy",
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'shape', '')}",
)
def test_other_values_are_left_to_the_unpickler(store: Store, value: Any) -> None:
    stored = store.get(codec.put(store, value).name)
    assert stored.array(np.ndarray) is None
    assert_same(codec.decode(stored), value)


def test_an_array_that_numpy_refuses_is_explained(store: Store) -> None:
    """A stream that says more than its buffer holds, as no writer of ours makes it."""
    array = np.ones(100)
    stream = bytes(store.get(codec.put(store, array).name).stream).replace(b"Kd\x85", b"K\xff\x85")
    writer = store.create()
    writer.write(stream)
    writer.add_buffer(pickle.PickleBuffer(array))
    stored = store.get(writer.seal("{}"))
    assert stored.array(np.ndarray) is None
    with pytest.raises(InvalidError, match="buffer is too small"):
        codec.decode(stored)
