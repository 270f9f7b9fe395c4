"""Goal: what can't be stored is named with its path and what to return instead, is not consumed, and leaves nothing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import io
import mmap
import queue
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import sqlalchemy
import sqlalchemy.orm

from airfreight import codec
from airfreight._store import Store


@dataclass
class Row:
    conn: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Slots:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class MySQLConnection:
    """A driver's connection: picklable but for the socket inside it."""

    def __init__(self) -> None:
        self.settings = {"host": "x"}
        self._socket = socket.socket()

    def close(self) -> None:
        self._socket.close()


def _generator() -> Any:
    yield from range(3)


async def _coroutine() -> None:
    await asyncio.sleep(0)


def _local_class() -> Any:
    class Local:
        pass

    return Local


def _local_function() -> Any:
    def local() -> None: ...

    return local


def _traceback() -> Any:
    try:
        raise ValueError
    except ValueError as error:
        return error.__traceback__


class Stubborn:
    def __reduce__(self) -> Any:
        raise RuntimeError("I stay here")


# What is refused, and words that its hint must have.
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "generator": (_generator, "list"),
    "generator expression": (lambda: (i for i in range(3)), "list"),
    "lambda": (lambda: lambda: 0, "top level"),
    "local function": (_local_function, "top level"),
    "local class": (_local_class, "top level"),
    "instance of local class": (lambda: _local_class()(), "top level"),
    "coroutine": (_coroutine, "await"),
    "module": (lambda: sys, "import"),
    "lock": (threading.Lock, "lock"),
    "rlock": (threading.RLock, "lock"),
    "condition": (threading.Condition, ""),
    "local": (threading.local, "thread"),
    "thread": (lambda: threading.Thread(target=print), "join"),
    "executor": (lambda: concurrent.futures.ThreadPoolExecutor(1), "executor"),
    "future": (concurrent.futures.Future, "result"),
    "queue": (queue.Queue, "list"),
    "open file": (Path(__file__).open, "path"),
    "open binary file": (lambda: Path(__file__).open("rb"), "path"),  # noqa: SIM115
    "temporary file": (tempfile.NamedTemporaryFile, "file"),
    "socket": (socket.socket, "address"),
    "sqlite connection": (lambda: sqlite3.connect(":memory:"), "connection id"),
    "sqlite cursor": (lambda: sqlite3.connect(":memory:").execute("select 1"), "rows"),
    "sqlalchemy engine": (lambda: sqlalchemy.create_engine("sqlite://"), "connection id"),
    "sqlalchemy connection": (lambda: sqlalchemy.create_engine("sqlite://").connect(), "connection id"),
    "sqlalchemy session": (lambda: sqlalchemy.orm.Session(sqlalchemy.create_engine("sqlite://")), "connection id"),
    "sqlalchemy result": (
        lambda: sqlalchemy.create_engine("sqlite://").connect().execute(sqlalchemy.text("select 1")),
        "rows",
    ),
    "driver connection": (MySQLConnection, "connection id"),
    "process": (lambda: subprocess.Popen(["true"]), "output"),
    "weak reference": (lambda: weakref.ref(Row), "itself"),
    "frame": (sys._getframe, "text"),
    "traceback": (_traceback, "text"),
    "code": (lambda: _generator.__code__, "function"),
    "dict keys": (lambda: {"a": 1}.keys(), "list"),
    "dict values": (lambda: {"a": 1}.values(), "list"),
    "mmap": (lambda: mmap.mmap(-1, 100), "bytes"),
    "pointer": (lambda: ctypes.pointer(ctypes.c_int(1)), "plain data"),
    "reduce that raises": (Stubborn, "plain data"),
    "text stream over a socket": (
        lambda: io.TextIOWrapper(io.BufferedReader(socket.socket().makefile("rb", 0))),
        "path",
    ),
}

# Where it is, by the path that must be named.
PLACES: dict[str, Callable[[Any], Any]] = {
    "": lambda bad: bad,
    "[1]": lambda bad: [1, bad],
    '["rows"][3].conn': lambda bad: {"rows": [1, 2, 3, Row(bad)]},
    "[0].right": lambda bad: (Pair(1, bad),),
    ".inner": lambda bad: Slots(bad),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_path_and_nothing_is_left(store: Store, name: str, path: str) -> None:
    make, words = CASES[name]
    bad = make()
    before = store.stat()
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, PLACES[path](bad))
    error = caught.value
    assert error.path == path
    assert f"cannot store result{path}: " in str(error)
    assert error.type_name
    assert error.hint is not None
    assert words in error.hint
    after = store.stat()
    assert (after["objects"], after["used_bytes"]) == (before["objects"], before["used_bytes"])
    with pytest.raises(codec.UnstorableError):
        codec.dumps(bad, 100_000)
    if hasattr(bad, "close"):
        bad.close()
    if isinstance(bad, subprocess.Popen):
        bad.wait()


def test_a_generator_stays_unstarted(store: Store) -> None:
    generator = _generator()
    with pytest.raises(codec.UnstorableError):
        codec.put(store, {"rows": [generator]})
    assert list(generator) == [0, 1, 2]


def test_an_iterator_over_a_file_is_not_read(store: Store) -> None:
    with Path(__file__).open() as file:
        with pytest.raises(codec.UnstorableError):
            codec.put(store, [map(str.strip, file)])
        assert file.readline().startswith('"""Goal')


def test_the_column_of_a_frame_is_named(store: Store) -> None:
    frame = pd.DataFrame({"a": [1, 2], "odd": pd.Series([1, threading.Lock()], dtype=object)})
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, [frame])
    assert caught.value.path.startswith('[0]["odd"]')


def test_the_element_of_an_object_array_is_named(store: Store) -> None:
    array = np.array([1, threading.Lock()], dtype=object)
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, array)
    assert caught.value.path == "[1]"


def test_a_key_of_a_dict_is_named(store: Store) -> None:
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, {lambda: 1: "x"})
    assert ".keys()" in caught.value.path


def test_an_element_of_a_mapped_list_is_named(store: Store) -> None:
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, [1, {"a": threading.Lock()}], elements=True)
    assert caught.value.path == '[1]["a"]'
    assert store.names() == []


def test_nesting_beyond_the_recursion_limit_is_explained(store: Store) -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(codec.UnstorableError, match="nested too deeply"):
        codec.put(store, value)
    while value:  # Or its deallocation would nest as deeply.
        value = value.pop()


def test_the_subject_can_name_the_task(store: Store) -> None:
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, [lambda: 0])
    error = caught.value.within("what task extract returned, result")
    assert str(error).startswith("cannot store what task extract returned, result[0]: a lambda")
    assert error.hint == caught.value.hint
    assert error.kind == "Invalid"


def test_a_cycle_around_it_ends(store: Store) -> None:
    value: dict[str, Any] = {}
    value["me"] = value
    value["bad"] = [value, _generator()]
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, value)
    assert caught.value.path.endswith('["bad"][1]')


def test_interruptions_are_passed_on(store: Store) -> None:
    class Interrupting:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec.put(store, [Interrupting()])
    assert store.names() == []
