"""Airfreight's store and codec, without Airflow around them."""

from __future__ import annotations

import os
import pickle
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.peers.base import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benches.values import Case


class Airfreight(Peer):
    """With a warm segment: something of that size was deleted before, so its pages can be had again."""

    label = "Airfreight"
    keeps_memory = True
    client = ("airfreight._store", "airfreight.codec")

    def connect(self) -> None:
        from airfreight import codec
        from airfreight._store import Store

        self._codec = codec
        self._store = Store(f"{self.place}/store", spill_path=f"{self.place}/spill")

    def put(self, value: Any) -> str:
        return self._codec.put(self._store, value).name

    def get(self, handle: str) -> Any:
        return self._codec.get(self._store, handle)

    def delete(self, handle: str) -> None:
        self._store.delete(handle)


class AirfreightEmptyPool(Airfreight):
    """Without one: the store's folder isn't even there yet, so making it is part of connecting."""

    label = "Airfreight, new store"
    keeps_memory = False
    is_new_each_round = True
    is_repeatable = False


class AirfreightUnreadyMemory(AirfreightEmptyPool):
    """The same on a virtual machine whose free memory has gone back to its host; elsewhere, the same again."""

    label = "Airfreight, new store, memory from the host"
    finds_memory_ready = False

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "array"


class AirfreightElsewhere(Airfreight):
    """In the folder that ``--store-dir`` names, such as a mount with huge pages."""

    label = "Airfreight, --store-dir"
    #: How the benchmark's option gets here.
    variable = "AIRFREIGHT_BENCH_STORE_DIR"

    @classmethod
    @contextmanager
    def serve(cls, scratch: Path, python: Path) -> Iterator[str]:
        folder = os.environ.get(cls.variable)
        if folder is None:
            raise RuntimeError("no --store-dir was given")
        with tempfile.TemporaryDirectory(prefix="airfreight-bench-", dir=folder) as place:
            yield place


class AirfreightElsewhereEmptyPool(AirfreightElsewhere):
    """There, without a warm segment."""

    label = "Airfreight, --store-dir, new store"
    keeps_memory = False
    is_new_each_round = True
    is_repeatable = False


class AirfreightStore(Airfreight):
    """The store alone, as a floor for small values: pickled by hand, no preview, nothing about the value written."""

    label = "Airfreight, store alone"
    keeps_memory = False
    _pickled: bytes | None = None

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "dict"

    def put(self, value: Any) -> str:
        writer = self._store.create()
        writer.write(pickle.dumps(value, protocol=5))
        return writer.seal("{}")

    def get(self, handle: str) -> Any:
        return pickle.loads(self._store.get(handle).stream)

    def hot_put(self, value: Any) -> str:
        """The store takes bytes and gives bytes; what pickle takes for a value is not its matter."""
        if self._pickled is None:
            self._pickled = pickle.dumps(value, protocol=5)
        writer = self._store.create()
        writer.write(self._pickled)
        return writer.seal("{}")

    def hot_get(self, handle: str) -> bytes:
        return bytes(self._store.get(handle).stream)


class AirfreightWithoutPreview(Airfreight):
    """Store and codec, but no preview."""

    label = "Airfreight, without preview"
    keeps_memory = False

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "dict"

    def put(self, value: Any) -> str:
        return self._codec.put(self._store, value, preview=False).name
