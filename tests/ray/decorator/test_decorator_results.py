"""Goal: results of every size and type come back as they were, or the error says what has happened to them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from driver_home import DriverHome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airfreight.errors import CorruptError, DeniedError, InvalidError, ObjectLostError
from airfreight.ray.report import CHUNK_BYTES, INLINE_BYTES_MAX, RESULT_BYTES_MAX, is_plain
from codec.cases import EXACT
from codec.equality import assert_same

Load = Callable[[str], ModuleType]


def same(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    "nbytes",
    [
        0,
        1,
        INLINE_BYTES_MAX // 2,
        INLINE_BYTES_MAX - 2,
        INLINE_BYTES_MAX,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        3 * CHUNK_BYTES + 1,
        50 * 1024 * 1024,
    ],
)
@pytest.mark.parametrize("in_the_log", [False, True])
def test_results_of_all_sizes(home: DriverHome, nbytes: int, in_the_log: bool) -> None:
    if in_the_log:
        home.log_name = "elsewhere-{}.log"

    def make(nbytes: int) -> bytes:
        return bytes(range(256)) * (nbytes // 256) + bytes(nbytes % 256)

    if in_the_log and nbytes > 10 * CHUNK_BYTES:
        nbytes = 10 * CHUNK_BYTES
    assert home.call(make, nbytes) == make(nbytes)
    assert home.printed == []


def test_a_result_beyond_the_limit_is_refused_with_the_way_out(home: DriverHome) -> None:
    def make(nbytes: int) -> bytearray:
        return bytearray(nbytes)

    with pytest.raises(InvalidError) as caught:
        home.call(make, RESULT_BYTES_MAX + 1)
    assert "the result of 256 MiB is larger than what can come back from the cluster (256 MiB)" in str(caught.value)
    assert "bucket" in str(caught.value)
    assert not list(home.folder_of_run.glob("airfreight-result-*"))


def test_values_of_every_kind_go_there_and_back(home: DriverHome) -> None:
    """In one call: each case by its name."""
    home.path.append(Path(__file__).parents[2])  # where the cases' classes are
    values = {name: make() for name, make in EXACT.items()}
    there = home.call(same, values)
    for name, value in values.items():
        assert_same(there[name], value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=30,
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.timezones() | st.none())
    | st.decimals()
    | st.uuids(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(values, min_size=20, max_size=40))
def test_any_arguments_round_trip(home: DriverHome, many: list[Any]) -> None:
    for ours, theirs in zip(many, home.call(same, many), strict=True):
        assert_same(theirs, ours)


@settings(max_examples=300, deadline=None)
@given(json_values)
def test_what_goes_as_json_is_the_same_after_it(value: Any) -> None:
    import json

    if is_plain(value):
        assert_same(json.loads(json.dumps(value)), value)


def test_a_list_that_is_twice_in_a_result_is_still_one(home: DriverHome) -> None:
    def twice() -> list[list[int]]:
        one = [1]
        return [one, one]

    one, other = home.call(twice)
    assert one is other


def large(n: int) -> bytes:
    return bytes(n)


def test_a_damaged_result_is_noticed(home: DriverHome) -> None:
    outcome = home.run(large, (3 * CHUNK_BYTES,))
    path = home.folder_of_run / outcome.record["result"]["file"]
    good = path.read_bytes()
    path.write_bytes(good.replace(b"AAAA", b"AAAB", 1))
    with pytest.raises(CorruptError, match="chunk 1 of 4"):
        outcome.value()
    path.write_bytes(good[: len(good) // 2].rpartition(b"\n")[0])
    with pytest.raises(CorruptError, match="came with 1 of 4 chunks"):
        outcome.value()
    path.unlink()
    with pytest.raises(ObjectLostError, match="that file is gone"):
        outcome.value()


def test_old_results_make_room_for_new_ones(home: DriverHome) -> None:
    """Ray never cleans its log directory."""
    home.run(large, (CHUNK_BYTES,))
    (result,) = home.folder_of_run.glob("airfreight-result-*")
    others = [result.with_name(name) for name in ("airfreight-result-old.log", "job-driver-old.log")]
    for path in others:
        path.write_text("")
        os.utime(path, (time.time() - 90_000,) * 2)
    from airfreight.ray import report

    log = os.open(home.folder_of_run / "job-driver-new.log", os.O_WRONLY | os.O_CREAT)
    kept = os.dup(1)
    try:
        os.dup2(log, 1)
        assert report._beside_the_log() == str(home.folder_of_run / "airfreight-result-new.log")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(log)
    assert [path.exists() for path in (result, *others)] == [True, False, True]


def test_large_arguments_are_split_and_whole_again(home: DriverHome, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from airfreight.ray import parcel

    monkeypatch.setattr(parcel, "PART_BYTES_MAX", 100_000)

    def total(array: Any, text: str) -> Any:
        array[0] = 5
        return array.sum(), len(text), array.flags.aligned

    array = np.arange(50_000.0)
    assert home.call(total, array, "x" * 300_000) == (array.sum() + 5, 300_000, True)
    assert len(list(home.folder_of_run.glob("package*/airfreight_parcel_*/data.*"))) == 8


def test_arguments_beyond_the_limit_are_refused_before_anything_is_sent(
    home: DriverHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airfreight.ray import parcel

    monkeypatch.setattr(parcel, "BYTES_MAX", 1024 * 1024)
    with pytest.raises(InvalidError, match="the arguments of same take 2 MiB"):
        home.call(same, bytes(2 * 1024 * 1024))


def test_a_parcel_is_the_same_for_the_same_call(home: DriverHome, tmp_path: Path) -> None:
    from airfreight.ray.function import Function
    from airfreight.ray.parcel import Parcel

    def parcel(n: int) -> Parcel:
        function = Function(large, [])
        return Parcel(function, function.argument((n,), {}), environment={}, libraries={})

    assert list(parcel(1).packages()) == list(parcel(1).packages())
    assert parcel(1).name != parcel(2).name


def test_without_pickle_only_what_runs_no_code_travels(home: DriverHome, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import pandas as pd

    home.allow_pickle = False
    frame = pd.DataFrame({"n": np.arange(20_000), "name": ["a"] * 20_000})
    value = {"frame": frame, "rows": list(range(20_000)), "pair": (1, b"2")}
    assert_same(home.call(same, value), value)
    with pytest.raises(InvalidError, match=r"the arguments of same\[\"args\"\]\[0\].*allow_pickle is false"):
        home.call(same, object())

    def make() -> object:
        return ValueError("x")

    with pytest.raises(InvalidError, match=r"result: a ValueError: \[airfreight\] allow_pickle is false"):
        home.call(make)
    # Whatever the driver was told: the reader has the last word.
    home.allow_pickle = True
    outcome = home.run(make)
    with pytest.raises(DeniedError, match=r"the result of make is a pickle, and \[airfreight\] allow_pickle is false"):
        outcome.value(allow_pickle=False)
