"""Goal: spilling never deletes what Airfreight didn't make. Method: put strangers wherever it cleans up."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from airfreight import codec
from airfreight._store import Store

if TYPE_CHECKING:
    from pathlib import Path

_CAPACITY_BYTES = 4 << 20


def _fill(store: Store) -> None:
    """Stores twice what the store takes, so that half of it is spilled."""
    for number in range(8):
        codec.put(store, bytes([number]) * (1 << 20))


def test_what_a_former_store_spilled_goes_and_strangers_stay(tmp_path: Path) -> None:
    store_path, spill_path = tmp_path / "store", tmp_path / "spill"
    former = Store(str(store_path), capacity_bytes=_CAPACITY_BYTES, spill_path=str(spill_path))
    _fill(former)
    assert former.stat()["spilled_objects"] > 0
    folder = spill_path / former.store_id

    strangers = [
        spill_path / "precious.txt",
        spill_path / ("0" * 32) / "objects" / ("1" * 32),
        folder / "objects" / "precious.parquet",
        folder / "tmp" / "half.tar",
    ]
    for stranger in strangers:
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.write_text("mine")

    # A reboot empties shared memory; the store that is made then cleans up after the one before it.
    shutil.rmtree(store_path)
    later = Store(str(store_path), capacity_bytes=_CAPACITY_BYTES, spill_path=str(spill_path))
    later.collect()

    assert later.store_id != former.store_id
    assert sorted(path.name for path in (folder / "objects").iterdir()) == ["precious.parquet"]
    assert all(stranger.read_text() == "mine" for stranger in strangers)


def test_the_folder_of_a_store_elsewhere_stays(tmp_path: Path) -> None:
    spill_path = tmp_path / "spill"
    other = Store(str(tmp_path / "other"), capacity_bytes=_CAPACITY_BYTES, spill_path=str(spill_path))
    _fill(other)
    spilled = sorted((spill_path / other.store_id / "objects").iterdir())
    assert spilled

    store = Store(str(tmp_path / "store"), capacity_bytes=_CAPACITY_BYTES, spill_path=str(spill_path))
    store.collect()
    assert sorted((spill_path / other.store_id / "objects").iterdir()) == spilled
