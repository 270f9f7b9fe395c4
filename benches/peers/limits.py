"""What the machine itself allows, as peers that only put: libc's ``memcpy`` and the kernel's ``pwrite``."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benches.peers.base import Peer

if TYPE_CHECKING:
    from benches.values import Case


class Limit(Peer):
    """
    Copies the bytes of an array, with nothing around them.

    ``ctypes.memmove`` is libc's own and runs without the GIL, so the cost of Python is one call.
    """

    is_limit = True
    is_repeatable = False

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "array"

    def prepare(self, value: Any) -> None:
        self._path = Path(self.place) / f"limit-{os.urandom(8).hex()}"
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def delete(self, handle: str) -> None:
        os.close(self._descriptor)
        self._path.unlink()

    def _fill(self, value: Any) -> None:
        """Gives the file its pages, by writing them once."""
        _write(self._descriptor, value)

    def _map(self, nbytes: int) -> mmap.mmap:
        return mmap.mmap(self._descriptor, nbytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)


class MemcpyWarm(Limit):
    label = "memcpy into warm pages, 1 thread"
    is_repeatable = True
    threads: ClassVar[int] = 1

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "array" or case.is_large

    def prepare(self, value: Any) -> None:
        super().prepare(value)
        self._fill(value)
        self._mapping = self._map(value.nbytes)
        # Once untimed: every page is then mapped and writable.
        _copy(self._mapping, value, self.threads)

    def put(self, value: Any) -> str:
        _copy(self._mapping, value, self.threads)
        return ""


class MemcpyWarmTwoThreads(MemcpyWarm):
    label = "memcpy into warm pages, 2 threads"
    threads = 2

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "array" and case.nbytes > 1_000_000


class PwriteFresh(Limit):
    label = "pwrite, fresh file"

    def put(self, value: Any) -> str:
        _write(self._descriptor, value)
        return ""


class PwriteRecycled(Limit):
    label = "pwrite, recycled file"

    def prepare(self, value: Any) -> None:
        super().prepare(value)
        self._fill(value)

    def put(self, value: Any) -> str:
        _write(self._descriptor, value)
        return ""


class PopulatedRecycled(Limit):
    label = "recycled file, MAP_POPULATE and memcpy"

    def prepare(self, value: Any) -> None:
        super().prepare(value)
        self._fill(value)

    def put(self, value: Any) -> str:
        self._mapping = self._map(value.nbytes)
        _copy(self._mapping, value, 1)
        return ""


def _write(descriptor: int, value: Any) -> None:
    view = memoryview(value).cast("B")
    written = 0
    # One call writes 2 GiB at most.
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], written)


def _copy(mapping: mmap.mmap, value: Any, threads: int) -> None:
    target = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    part = -(-value.nbytes // threads)
    parts = [(start, min(part, value.nbytes - start)) for start in range(0, value.nbytes, part)]
    if threads == 1:
        ctypes.memmove(target, value.ctypes.data, value.nbytes)
        return
    workers = [
        threading.Thread(target=ctypes.memmove, args=(target + start, value.ctypes.data + start, nbytes))
        for start, nbytes in parts
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
