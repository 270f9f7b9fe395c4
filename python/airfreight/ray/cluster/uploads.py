"""
Values on their way into the cluster: object files, which arrive in Ray's store, or are gathered elsewhere on the head.

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

from . import place, room, sending
from .problem import Problem
from .upload import InFile, InRay, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

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
#: Room that Ray doesn't make in time isn't waited for.
_ROOM_SECONDS = 10.0


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
        self._begins = threading.Condition()
        #: Those that are about to begin.
        self._names: set[tuple[str, str]] = set()
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
        while True:
            upload = self._uploads.get((owner, key))
            if upload is None or upload.nbytes != total:
                upload = self._begun((owner, key), total, None)
            if upload.take(offset, length, checksum, stream):
                return {"received": upload.received}

    def begin(self, owner: str, key: str, wanted: Record) -> Record:
        """Makes room for a value, if none of it has come; gives what there is of it."""
        try:
            nbytes = int(wanted["nbytes"])
        except (KeyError, TypeError, ValueError):
            raise Problem("Invalid", "to begin an upload takes nbytes") from None
        with self._beginning((owner, key)):
            state = self.state(owner, key)
            upload = self._uploads.get((owner, key))
            if state["state"] in ("absent", "partial") and (upload is None or upload.nbytes != nbytes):
                self._begun((owner, key), nbytes, self._handle(owner, wanted))
                return {"state": "partial", "received": 0}
            return state

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

    @contextlib.contextmanager
    def _beginning(self, name: tuple[str, str]) -> Iterator[None]:
        """Who else begins the same upload waits, so that there is room for it once."""
        with self._begins:
            self._begins.wait_for(lambda: name not in self._names)
            self._names.add(name)
        try:
            yield
        finally:
            with self._begins:
                self._names.remove(name)
                self._begins.notify_all()

    def _begun(self, name: tuple[str, str], nbytes: int, owner: Any) -> Upload:
        """
        A new upload, or the one that somebody else has begun meanwhile.

        :param owner: who is to make room in Ray's store; ``None``: nobody.
        """
        made = None if owner is None else self._in_ray(name[0], owner, nbytes)
        with self._lock:
            upload = self._uploads.get(name)
            if upload is None or upload.nbytes != nbytes:
                if upload is not None:
                    upload.remove()
                upload = self._uploads[name] = Upload(nbytes, made or InFile(self._path(name, nbytes)))
            return upload

    def _in_ray(self, name: str, owner: Any, nbytes: int) -> InRay | None:
        """Room in Ray's store; ``None``: the file has to be gathered elsewhere."""
        if nbytes < room.BYTES_MIN or not hasattr(owner, "room"):
            # An owner that an older runner has made knows no other way.
            return None
        import ray

        deadline = time.monotonic() + _ROOM_SECONDS
        try:
            ref = self._owners.ask_handle(name, owner, "room", nbytes, wait=_ROOM_SECONDS)[0]
            found = ray.get(ref, timeout=max(deadline - time.monotonic(), 1.0))
        except (Problem, ray.exceptions.RayError):
            # Why there is none is told when the value is made.
            return None
        return InRay.of(owner, ref, found)

    def _handle(self, owner: str, wanted: Record) -> Any:
        return self._owners.make({"name": owner, **(wanted.get("info") or {})})

    def _path(self, name: tuple[str, str], nbytes: int) -> str | None:
        """Where a file is gathered; ``None``: in memory, which a disk would be slower than."""
        if hasattr(os, "memfd_create"):
            promised = sum(upload.promised_bytes for upload in self._uploads.values())
            if nbytes <= (place.free_memory() - promised) * _MEMORY_PART:
                return None
        free = os.statvfs(self._folder)
        if nbytes > free.f_bavail * free.f_frsize:
            raise Problem(
                "Full",
                f"the head has {free.f_bavail * free.f_frsize} bytes of disk left for a value of {nbytes}",
                "give Ray's temporary folder more room",
            )
        # A new name each time: another connection may still write to the former.
        text = "\0".join((*name, str(time.time_ns())))
        return os.path.join(self._folder, hashlib.sha256(text.encode()).hexdigest())

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
            # Its frames would hold what has come until Python collects them.
            running.error = problem.with_traceback(None)
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
                if upload is not None and (running.error is None or running.error.kind in _useless(upload)):
                    self._uploads.pop((owner, key)).remove()
            running.done.set()

    def _made(self, owner: str, key: str, wanted: Record) -> Record:
        try:
            source, nbytes = wanted["from"], int(wanted["nbytes"])
            kind = source["kind"]
        except (KeyError, TypeError, ValueError):
            raise Problem("Invalid", "to finish an upload takes nbytes and from") from None
        handle = self._handle(owner, wanted)
        if kind == "port":
            upload = self._uploads.get((owner, key))
            if upload is None or upload.received < nbytes:
                made = self._there(owner, key)
                if made is not None:
                    # By another sender, since this was asked for.
                    return made
                received = 0 if upload is None else upload.received
                raise Problem("Conflict", f"{received} of {nbytes} bytes have come", "send the rest")
        else:
            upload = self._fetched((owner, key), handle, source, nbytes)
        if upload.owner not in (None, handle):
            raise Problem("Lost", f"the owner {owner} has begun anew while {key} was sent to it", "send it again")
        value: Record = self._owners.ask_handle(owner, handle, "take", key, upload.complete(), wait=_IMPORT_SECONDS)
        return value

    def _fetched(self, name: tuple[str, str], owner: Any, source: Record, nbytes: int) -> Upload:
        """A file that is brought from elsewhere, from its beginning."""
        with self._lock:
            begun = self._uploads.pop(name, None)
            if begun is not None:
                begun.remove()
        upload = self._begun(name, nbytes, owner)
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
            for package, checksum in zip(source["names"], checksums):  # noqa: B905 - not in Python 3.8
                data = _internal_kv_get(_package(package))
                if data is None:
                    raise Problem("Conflict", f"Ray has no package {package}", "send it again")
                if checksum is not None and zlib.crc32(data) != checksum:
                    raise Problem("Corrupt", f"the package {package} has changed on its way", "send it again")
                upload.append(data)
        finally:
            _forget_packages({"from": source})
        if upload.received != nbytes:
            raise Problem("Corrupt", f"the packages have {upload.received} of {nbytes} bytes", "send them again")
        return upload


def _useless(upload: Upload) -> tuple[str, ...]:
    """After which problems it is of no use to go on with what has come."""
    # What an owner has made ends with it.
    return ("Corrupt",) if upload.owner is None else ("Corrupt", "Lost")


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
