"""
Values on their way into the cluster: object files, gathered in the head's memory, or on its disk, until they are whole.

A file comes over the runner's own port in chunks, or lies in Ray's store of packages, or at a URL. Then the owner of
the DAG run makes a value of it. However many send the same value, it is made once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

from . import place, sending
from .problem import Problem

if TYPE_CHECKING:
    from .owners import Owners
    from .server import Request, Stream

    Record = dict[str, Any]

CHUNK_BYTES_MAX = 16 * 1024 * 1024
#: What Ray's store of packages is asked to hold, in the head's memory.
KV_BYTES_MAX = 256 * 1024 * 1024
#: A file stays in memory if it takes no more than this part of what is free; Ray's store takes as much once more.
_MEMORY_PART = 0.25
_IDLE_SECONDS = 900.0
_IMPORT_SECONDS = 3600.0


class Upload:
    """
    A file that grows.

    :param nbytes: how long it is to be.
    :param path: where; ``None``: in memory, under no name, so that it goes with the runner.
    """

    def __init__(self, nbytes: int, path: str | None) -> None:
        self.nbytes = nbytes
        self.used_at = time.monotonic()
        self._named = path
        if path is None:
            self._file = os.memfd_create("airfreight-upload", os.MFD_CLOEXEC)
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        #: Where another process of this node finds it.
        self.path = path or f"/proc/{os.getpid()}/fd/{self._file}"
        self._lock = threading.Lock()
        #: Where chunks begin and end that have come, apart from those at the beginning.
        self._apart: dict[int, int] = {}
        self.received = 0
        self._writers = 0
        self._removed = False

    @property
    def is_in_memory(self) -> bool:
        return self._named is None

    @property
    def missing_bytes(self) -> int:
        return self.nbytes - self.received

    def enter(self) -> bool:
        """Keeps the file open for one writer, until :meth:`leave`; ``False``: it is gone."""
        with self._lock:
            self._writers += not self._removed
            return not self._removed

    def leave(self) -> None:
        with self._lock:
            self._writers -= 1
            self._close_if_unused()

    def take(self, offset: int, length: int, checksum: int, stream: Stream) -> None:
        """Writes a chunk, which counts when its checksum is right."""
        crc = 0
        position = offset
        for piece in stream.pieces(length):
            crc = zlib.crc32(piece, crc)
            _write(self._file, piece, position)
            position += len(piece)
        self.used_at = time.monotonic()
        if crc != checksum:
            self._forget(offset, length)
            raise Problem("Corrupt", f"the chunk at {offset} has changed on its way", "send it again")
        self._count(offset, length)

    def append(self, data: Any) -> None:
        """Writes what comes next, of a source that comes in order."""
        _write(self._file, memoryview(data), self.received)
        self.received += len(data)
        self.used_at = time.monotonic()

    def _count(self, offset: int, length: int) -> None:
        with self._lock:
            self._apart[offset] = max(self._apart.get(offset, 0), offset + length)
            for start in sorted(self._apart):
                if start > self.received:
                    break
                self.received = max(self.received, self._apart.pop(start))

    def _forget(self, offset: int, length: int) -> None:
        """A chunk that came a second time, and damaged, is written over the first."""
        with self._lock:
            self.received = min(self.received, offset)
            apart = list(self._apart.items())
            for start in [start for start, end in apart if start < offset + length and end > offset]:
                del self._apart[start]

    def remove(self) -> None:
        """Takes the file away; who is still writing to it writes to what nobody reads."""
        if self._named is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._named)
        with self._lock:
            self._removed = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        # A descriptor that is closed under a writer may be another file's a moment later.
        if self._removed and not self._writers:
            os.close(self._file)


class _Import:
    """What becomes of a finished upload."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: Record | None = None
        self.error: Problem | None = None


class Uploads:
    """
    All uploads of a runner; those that aren't finished end with it.

    :param folder: where files are gathered.
    """

    def __init__(self, owners: Owners, folder: str) -> None:
        self._owners = owners
        self._folder = folder
        self._uploads: dict[tuple[str, str], Upload] = {}
        self._imports: dict[tuple[str, str], _Import] = {}
        self._lock = threading.Lock()
        for name in os.listdir(folder):
            # Of a runner that was killed.
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))

    def receive(self, owner: str, key: str, request: Request, stream: Stream) -> Record:
        """Takes one chunk."""
        try:
            offset, total = int(request.query["offset"]), int(request.query["total"])
            checksum = int(request.headers["x-airfreight-crc32"], 16)
        except (KeyError, ValueError):
            raise Problem("Invalid", "a chunk needs offset, total and X-Airfreight-Crc32") from None
        length = request.length
        if not 0 < length <= CHUNK_BYTES_MAX or offset < 0 or offset + length > total:
            raise Problem("Invalid", f"a chunk of {length} bytes at {offset} is not within {total} bytes, or too long")
        upload = self._upload(owner, key, total)
        while not upload.enter():
            upload = self._upload(owner, key, total)
        try:
            upload.take(offset, length, checksum, stream)
        finally:
            upload.leave()
        return {"received": upload.received}

    def state(self, owner: str, key: str) -> Record:
        value = self._there(owner, key)
        if value is not None:
            return {"state": "there", "received": 0, "generation": value["generation"]}
        if (owner, key) in self._imports:
            return {"state": "importing", "received": 0}
        upload = self._uploads.get((owner, key))
        return (
            {"state": "absent", "received": 0} if upload is None else {"state": "partial", "received": upload.received}
        )

    def finish(self, owner: str, key: str, wanted: Record, wait: float) -> Record:
        """Makes a value of what has come; returns when it is there, or after so many seconds."""
        value = self._there(owner, key)
        if value is not None:
            _forget_packages(wanted)
            return {"state": "there", "generation": value["generation"]}
        with self._lock:
            running = self._imports.get((owner, key))
            if running is None:
                running = self._imports[(owner, key)] = _Import()
                threading.Thread(target=self._import, args=(running, owner, key, wanted), daemon=True).start()
        running.done.wait(wait)
        if running.error is not None:
            raise running.error
        if running.value is None:
            return {"state": "importing"}
        return {"state": "there", "generation": running.value["generation"]}

    def clean(self) -> None:
        """Removes what nobody goes on with."""
        with self._lock:
            for name, upload in list(self._uploads.items()):
                if time.monotonic() - upload.used_at > _IDLE_SECONDS and name not in self._imports:
                    self._uploads.pop(name).remove()

    def _upload(self, owner: str, key: str, nbytes: int) -> Upload:
        with self._lock:
            upload = self._uploads.get((owner, key))
            if upload is None or upload.nbytes != nbytes:
                if upload is not None:
                    upload.remove()
                upload = self._uploads[(owner, key)] = Upload(nbytes, self._path(owner, key, nbytes))
            return upload

    def _path(self, owner: str, key: str, nbytes: int) -> str | None:
        """Where a file is gathered; ``None``: in memory, which a disk would be slower than."""
        if hasattr(os, "memfd_create"):
            promised = sum(upload.missing_bytes for upload in self._uploads.values() if upload.is_in_memory)
            if nbytes <= (place.free_memory() - promised) * _MEMORY_PART:
                return None
        room = os.statvfs(self._folder)
        if nbytes > room.f_bavail * room.f_frsize:
            raise Problem(
                "Full",
                f"the head has {room.f_bavail * room.f_frsize} bytes of disk left for a value of {nbytes}",
                "give Ray's temporary folder more room",
            )
        # A new name each time: another connection may still write to the former.
        name = hashlib.sha256(f"{owner}\0{key}\0{time.time_ns()}".encode()).hexdigest()
        return os.path.join(self._folder, name)

    def _there(self, owner: str, key: str) -> Record | None:
        try:
            found: Record | None = self._owners.ask(owner, "look", key, "")
        except Problem as problem:
            if problem.kind != "Lost":
                raise
            return None
        return found

    def _import(self, running: _Import, owner: str, key: str, wanted: Record) -> None:
        try:
            running.value = self._made(owner, key, wanted)
        except Problem as problem:
            running.error = problem
        except Exception as error:  # noqa: BLE001 - the sender is to know
            cause = getattr(error, "cause", None) or error
            running.error = (
                cause
                if isinstance(cause, Problem)
                else Problem("Unavailable", f"{key} can't be taken: {type(cause).__name__}: {cause}"[:2000])
            )
        finally:
            with self._lock:
                del self._imports[(owner, key)]
                upload = self._uploads.get((owner, key))
                if upload is not None and (running.error is None or running.error.kind == "Corrupt"):
                    self._uploads.pop((owner, key)).remove()
            running.done.set()

    def _made(self, owner: str, key: str, wanted: Record) -> Record:
        try:
            source, nbytes = wanted["from"], int(wanted["nbytes"])
            kind = source["kind"]
        except (KeyError, TypeError, ValueError):
            raise Problem("Invalid", "to finish an upload takes nbytes and from") from None
        if kind == "port":
            upload = self._uploads.get((owner, key))
            received = 0 if upload is None else upload.received
            if upload is None or received < nbytes:
                made = self._there(owner, key)
                if made is not None:
                    # By another sender, since this was asked for.
                    return made
                raise Problem("Conflict", f"{received} of {nbytes} bytes have come", "send the rest")
        else:
            upload = self._fetched(owner, key, source, nbytes)
        info = wanted.get("info") or {}
        handle = self._owners.make({"name": owner, **info})
        value: Record = self._owners.ask_handle(owner, handle, "take", key, {"path": upload.path}, wait=_IMPORT_SECONDS)
        return value

    def _fetched(self, owner: str, key: str, source: Record, nbytes: int) -> Upload:
        upload = self._upload(owner, key, nbytes)
        upload.received = 0
        if source["kind"] == "url":
            sending.from_url(source["url"], upload.append, nbytes, int(source["chunk"]), source["crc32"])
            return upload
        if source["kind"] != "kv":
            raise Problem("Invalid", f"this runner doesn't know the way {source['kind']!r}", "update Airfreight")
        from ray.experimental.internal_kv import _internal_kv_get

        if nbytes > KV_BYTES_MAX:
            raise Problem(
                "Full",
                f"the value has {nbytes} bytes, and at most {KV_BYTES_MAX} go through the dashboard",
                "let the workers reach the runner's own port, or set a bucket",
            )
        try:
            checksums = source.get("crc32") or [None] * len(source["names"])
            for name, checksum in zip(source["names"], checksums):  # noqa: B905 - not in Python 3.8
                data = _internal_kv_get(_package(name))
                if data is None:
                    raise Problem("Conflict", f"Ray has no package {name}", "send it again")
                if checksum is not None and zlib.crc32(data) != checksum:
                    raise Problem("Corrupt", f"the package {name} has changed on its way", "send it again")
                upload.append(data)
        finally:
            _forget_packages({"from": source})
        if upload.received != nbytes:
            raise Problem("Corrupt", f"the packages have {upload.received} of {nbytes} bytes", "send them again")
        return upload


def _package(name: str) -> bytes:
    if not name.startswith("afval_"):
        raise Problem("Invalid", f"{name!r} is no name of a part of a value")
    return f"gcs://{name}".encode()


def _forget_packages(wanted: Record) -> None:
    source = wanted.get("from") or {}
    if source.get("kind") == "kv":
        from ray.experimental.internal_kv import _internal_kv_del

        for name in source.get("names", ()):
            _internal_kv_del(_package(name))


def _write(file: int, data: memoryview, position: int) -> None:
    try:
        while len(data):
            count = os.pwrite(file, data, position)
            data = data[count:]
            position += count
    except OSError as error:
        raise Problem("Full", f"can't write a value on the head: {error.strerror}", "make room there") from error
