"""Goal: what is read is an ordinary value: writable, alone, alive as long as it is used, and made without copying."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from airfreight import codec
from airfreight._store import Store
from codec.equality import assert_same

MEGABYTES_16 = 2_000_000


def _text_frame() -> pd.DataFrame:
    return pd.DataFrame({"s": [f"text {i}" for i in range(100_000)]})


# Values of which all that is large must travel as buffers, and how large the stream may be.
LARGE: dict[str, Any] = {
    "array": lambda: np.arange(MEGABYTES_16, dtype="f8"),
    "fortran": lambda: np.asfortranarray(np.arange(MEGABYTES_16, dtype="f8").reshape(1000, -1)),
    "strided": lambda: np.arange(2 * MEGABYTES_16, dtype="f8")[::2],
    "reversed": lambda: np.arange(MEGABYTES_16, dtype="f8")[::-1],
    "transposed": lambda: np.arange(MEGABYTES_16, dtype="f8").reshape(10, 100, -1).transpose(1, 0, 2),
    "dates": lambda: np.arange(MEGABYTES_16).astype("M8[s]"),
    "durations": lambda: np.arange(MEGABYTES_16).astype("m8[ns]"),
    "records": lambda: np.zeros(MEGABYTES_16 // 2, [("a", "f8"), ("b", "M8[s]")]),
    "recarray": lambda: np.zeros(MEGABYTES_16 // 2, [("a", "f8"), ("b", "f8")]).view(np.recarray),
    "masked": lambda: np.ma.masked_greater(np.arange(MEGABYTES_16, dtype="f8"), 5),
    "string dtype": lambda: np.array([f"text {i}" for i in range(100_000)], np.dtypes.StringDType()),
    "object texts": lambda: np.array([f"text {i}" for i in range(100_000)], object),
    "numeric frame": lambda: pd.DataFrame(np.zeros((MEGABYTES_16 // 5, 5))),
    "date frame": lambda: pd.DataFrame({"t": pd.date_range("2000", periods=MEGABYTES_16, freq="s")}),
    "zoned frame": lambda: pd.DataFrame(
        {"t": pd.date_range("2000", periods=MEGABYTES_16, freq="s", tz="Europe/Berlin")}
    ),
    "period series": lambda: pd.Series(pd.period_range("2000", periods=100_000, freq="h")),
    "interval series": lambda: pd.Series(pd.interval_range(0, 100_000)),
    "text frame": _text_frame,
    "object text frame": lambda: _text_frame().astype(object),
    "python string series": lambda: _text_frame()["s"].astype("string[python]"),
    "categories": lambda: pd.Series(pd.Categorical.from_codes(np.zeros(MEGABYTES_16, "i1"), ["a"])),
    "multi index": lambda: pd.MultiIndex.from_arrays([np.arange(500_000), np.arange(500_000.0)]),
    "arrow": lambda: pa.table({"a": np.arange(MEGABYTES_16), "s": pa.array(["x" * 9] * 100_000 * 20)}),
    "polars": lambda: pl.DataFrame({"a": np.arange(MEGABYTES_16), "s": ["a text of some length"] * MEGABYTES_16}),
    "bytes": lambda: b"x" * 5_000_000,
    "bytearray": lambda: bytearray(5_000_000),
    "text": lambda: "x" * 5_000_000,
    "text in a dict": lambda: {"deep": [{"er": ("é" * 3_000_000,)}]},
    "memoryview": lambda: memoryview(bytearray(5_000_000)),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_memory_stays_out_of_the_stream(store: Store, name: str) -> None:
    value = LARGE[name]()
    stored = store.get(codec.put(store, value).name)
    assert len(stored.stream) < 4096
    assert sum(view.nbytes for view in stored.buffers) > 500_000
    for view in stored.buffers:
        assert np.frombuffer(view, np.uint8).ctypes.data % 64 == 0
    assert_same(codec.decode(stored), value)
    store.delete(stored.name)


def test_an_array_is_mapped_rather_than_copied(store: Store) -> None:
    name = codec.put(store, np.arange(30_000_000.0)).name
    codec.get(store, codec.put(store, np.arange(1000.0)).name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    array = codec.get(store, name)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < array.nbytes * 0.05
    assert array[-1] == 29_999_999.0
    store.delete(name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(5000.0),
        lambda: np.arange(10_000.0)[::2],
        lambda: np.arange(5000).astype("M8[s]"),
        lambda: np.ma.masked_greater(np.arange(5000.0), 9),
        lambda: np.arange(3.0),
    ],
)
def test_changes_in_place_work_and_never_reach_the_store(store: Store, make: Any) -> None:
    value = make()
    name = codec.put(store, value).name
    changed = codec.get(store, name)
    changed[:] = changed[::-1].copy()
    changed[1] = changed[2]
    assert_same(codec.get(store, name), value)


def test_a_frame_can_be_changed_in_place(store: Store) -> None:
    frame = pd.DataFrame(np.arange(6000.0).reshape(1000, 6), columns=list("abcdef"))
    frame["when"] = pd.date_range("2024", periods=1000)
    frame["text"] = [f"t{i}" for i in range(1000)]
    name = codec.put(store, frame).name
    changed = codec.get(store, name)
    changed.iloc[0, 0] = 99
    changed.loc[5, "when"] = pd.Timestamp("1999")
    changed.loc[6, "text"] = "new"
    changed["g"] = changed["a"] * 2
    changed.sort_values("b", ascending=False, inplace=True)
    changed.drop(columns=["c"], inplace=True)
    assert_same(codec.get(store, name), frame)


def test_a_container_is_the_readers_own(store: Store) -> None:
    value = {"list": [1, 2], "array": np.arange(3000)}
    name = codec.put(store, value).name
    changed = codec.get(store, name)
    changed["list"].append(3)
    changed["array"] += 1
    changed["new"] = 1
    assert_same(codec.get(store, name), value)


def test_a_read_only_mapping_can_be_asked_for(store: Store) -> None:
    name = codec.put(store, np.arange(5000.0)).name
    array = codec.get(store, name, writable=False)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_values_outlive_their_object(store: Store) -> None:
    value = {"array": np.arange(100_000.0), "table": pa.table({"a": np.arange(100_000)})}
    name = codec.put(store, value).name
    part = codec.get(store, name)["array"][5:10]
    table = codec.get(store, name)["table"]
    assert store.delete(name)
    gc.collect()
    # Whatever comes next must not get the same memory.
    others = [codec.put(store, np.zeros(100_000)).name for _ in range(5)]
    assert part.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]
    assert table.column("a")[-1].as_py() == 99_999
    for other in others:
        store.delete(other)


def test_a_mapping_ends_with_its_last_value(store: Store) -> None:
    name = codec.put(store, {"a": np.arange(100_000.0), "b": np.arange(100_000.0)}).name
    value = codec.get(store, name)
    kept = value["a"][3:5]
    del value
    gc.collect()
    assert store.path in Path("/proc/self/maps").read_text()
    assert store.describe(name)["pinned"]
    del kept
    gc.collect()
    assert not store.describe(name)["pinned"]


def test_a_slice_of_arrow_ships_what_it_shows(store: Store) -> None:
    table = pa.table({"a": np.arange(1_000_000), "s": pa.array([f"text {i}" for i in range(1_000_000)])})
    stored = codec.put(store, {"table": table.slice(500_000, 1000), "series": table.to_pandas()["s"][10:20]})
    assert stored.nbytes < 60_000


def test_a_slice_of_polars_ships_what_it_shows(store: Store) -> None:
    frame = pl.DataFrame({"a": np.arange(500_000), "s": [f"a text longer than a view {i}" for i in range(500_000)]})
    assert codec.put(store, frame[1000:2000]).nbytes < 200_000


def test_putting_does_not_change_the_value(store: Store) -> None:
    frame = _text_frame().astype("string[pyarrow]")
    chunks = frame["s"].array._pa_array.num_chunks
    masked = np.ma.masked_greater(np.arange(5000.0), 9)
    codec.put(store, [frame, masked])
    assert frame["s"].array._pa_array.num_chunks == chunks
    masked[0] = np.ma.masked
    assert masked.mask[0]


def test_the_store_is_as_before_when_there_is_no_room(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), capacity_bytes=1 << 20, spill_capacity_bytes=0)
    with pytest.raises(MemoryError):
        codec.put(store, np.zeros(1_000_000))
    assert store.stat()["used_bytes"] == 0
    with pytest.raises(MemoryError):
        codec.put(store, list(range(2_000_000)))
    assert store.names() == []


def test_threads_put_and_get_at_once(store: Store) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(20):
            array = np.full(50_000, number * 100 + i)
            name = codec.put(store, {"array": array, "text": f"{number}"}).name
            if not (codec.get(store, name)["array"] == array).all():
                wrong.append(number)
            store.delete(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_fork_reads_what_its_parent_put(store: Store) -> None:
    name = codec.put(store, np.arange(100_000)).name
    child = os.fork()
    if child == 0:
        os._exit(0 if codec.get(store, name)[-1] == 99_999 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_importing_loads_no_library_of_values() -> None:
    import subprocess

    program = (
        "import sys; import airfreight.codec; "
        "print([name for name in ('numpy', 'pandas', 'pyarrow', 'polars', 'torch', 'xgboost', 'airflow') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
