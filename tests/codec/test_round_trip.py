"""Goal: every value comes back as it was. Method: put and get each case, here and in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airfreight import codec
from airfreight._store import Store
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
