"""
Values on their way out of the cluster, as object files.

Nothing is written for the runner's own port: a value's pages in Ray's store are sent from where they are, between a
header and a footer. A value of another node is first fetched to the head's store, which Ray does, and spills for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or not __package__.startswith("airfreight_"):
    from airfreight.ray import report
else:
    import airfreight_report as report

from . import objectfile, place, sending
from .problem import Problem

if TYPE_CHECKING:
    from .owners import Owners
    from .server import Request, Stream

    Record = dict[str, Any]

#: What the dashboard is asked to carry as a log.
LOG_BYTES_MAX = 256 * 1024 * 1024
#: An export that nobody reads ends; who wants to go on begins it anew.
_IDLE_SECONDS = 600.0
_FETCH_SECONDS = 3600.0


class Export:
    """One value on one way."""

    def __init__(self, export_id: str, owner: str, key: str, nbytes: int) -> None:
        self.id = export_id
        self.owner = owner
        self.key = key
        self.nbytes = nbytes
        self.file: objectfile.File | None = None
        self.used_at = time.monotonic()
        self.done = threading.Event()
        self.error: Problem | None = None
        self.path: str | None = None
        #: What is told of it.
        self.facts: Record = {}

    def told(self) -> Record:
        state = "ready" if self.done.is_set() else "writing"
        return {"export": self.id, "state": state, "nbytes": self.nbytes, "chunk": objectfile.CHUNK_BYTES, **self.facts}


class Exports:
    """
    All exports of a runner; they end with it.

    :param folder: where files go that are to be read as logs; ``shown`` is its name below the log folder.
    """

    def __init__(self, owners: Owners, folder: str, shown: str) -> None:
        self._owners = owners
        self._folder = folder
        self._shown = shown
        self._exports: dict[str, Export] = {}
        self._lock = threading.Lock()

    def begin(self, wanted: Record, wait: float) -> Record:
        """Begins an export, or finds the same one; returns when it is ready, or after so many seconds."""
        try:
            value = wanted["owner"], wanted["generation"], wanted["key"]
            kind = wanted["to"]["kind"]
        except (KeyError, TypeError):
            raise Problem("Invalid", "an export needs owner, generation, key, and to") from None
        if kind not in ("port", "log", "url"):
            raise Problem("Invalid", f"this runner doesn't know the way {kind!r}", "update Airfreight")
        export_id = hashlib.sha256(json.dumps([value, wanted["to"]], sort_keys=True).encode()).hexdigest()[:32]
        with self._lock:
            export = self._exports.get(export_id)
        if export is None:
            facts = self._facts(*value)
            if kind == "log" and facts["file_bytes"] > LOG_BYTES_MAX:
                raise Problem(
                    "Full",
                    f"the value has {facts['file_bytes']} bytes, and at most {LOG_BYTES_MAX} go through the dashboard",
                    "let the workers reach the runner's own port, or set a bucket",
                )
            with self._lock:
                export = self._exports.get(export_id)
                if export is None:
                    export = self._exports[export_id] = Export(export_id, value[0], value[2], facts["file_bytes"])
                    threading.Thread(target=self._work, args=(export, value, wanted["to"]), daemon=True).start()
        export.used_at = time.monotonic()
        export.done.wait(wait)
        if export.error is not None:
            with self._lock:
                self._exports.pop(export_id, None)
            raise export.error
        return export.told()

    def send(self, export_id: str, request: Request, stream: Stream) -> None:
        """Answers with the file, or with the part of it that is asked for."""
        export = self._exports.get(export_id)
        if export is None or export.file is None:
            raise Problem("NotFound", f"there is no export {export_id}", "begin it again")
        export.used_at = time.monotonic()
        asked = request.headers.get("range")
        start, stop = _range(asked, export.nbytes)
        headers = f"Content-Range: bytes {start}-{stop - 1}/{export.nbytes}\r\n" if asked else ""
        if stop - start <= objectfile.CHUNK_BYTES:
            headers += f"X-Airfreight-Crc32: {export.file.checksum(start, stop):08x}\r\n"
        stream.answer_pieces(206 if asked else 200, export.file.part(start, stop), headers)
        export.used_at = time.monotonic()

    def end(self, export_id: str) -> bool:
        with self._lock:
            export = self._exports.pop(export_id, None)
        if export is None:
            return False
        if export.path is not None:
            _remove(export.path)
        return True

    def end_of(self, owner: str, key: str | None = None) -> None:
        """Ends the exports of an owner's value, or of all its values, whose memory they hold."""
        for export in list(self._exports.values()):
            if export.owner == owner and key in (None, export.key):
                self.end(export.id)

    def clean(self) -> None:
        """Ends exports that nobody reads any more."""
        for export in list(self._exports.values()):
            if export.done.is_set() and time.monotonic() - export.used_at > _IDLE_SECONDS:
                self.end(export.id)

    def _facts(self, owner: str, generation: str, key: str) -> Record:
        facts: Record | None = self._owners.ask(owner, "look", key, generation)
        if facts is None:
            raise Problem(
                "Lost",
                f"the value {key} is not in the cluster any more",
                "clear the task that made it, to run it again",
            )
        if facts["form"] != "packed":
            what = "has parts, which are exported one by one" if facts["form"] == "parts" else "can't leave the cluster"
            raise Problem("Invalid", f"the value {key} {what}: it is a {facts.get('type')}", "take it in a task on Ray")
        return facts

    def _work(self, export: Export, value: tuple[str, str, str], to: Record) -> None:
        try:
            self._make(export, value, to)
        except Problem as problem:
            export.error = problem
        except Exception as error:  # noqa: BLE001 - Ray's ways to lose a value are many
            export.error = _problem(value[2], error)
        finally:
            export.used_at = time.monotonic()
            export.done.set()

    def _make(self, export: Export, value: tuple[str, str, str], to: Record) -> None:
        import ray

        owner, generation, key = value
        found = self._owners.ask(owner, "refs", [key], generation)[0]
        if found is None:
            raise Problem("Lost", f"the value {key} is not in the cluster any more", "clear the task that made it")
        name = objectfile.name_of(owner, generation, key)
        if to["kind"] == "url":
            task = ray.remote(num_cpus=0, max_retries=1)(sending.to_url)
            told = ray.get(task.remote(found["refs"][0], name, to["url"], to.get("headers") or {}))
            export.facts = json.loads(told)
            if "problem" in export.facts:
                raise Problem(*export.facts["problem"])
            return
        file = objectfile.File(objectfile.pieces(ray.get(found["refs"][0], timeout=_FETCH_SECONDS), name))
        export.nbytes = file.nbytes
        export.facts = {"node_id": place.node_id()}
        if to["kind"] != "port" or to.get("checksums"):
            export.facts["crc32"] = file.checksums()
        if to["kind"] == "port":
            export.file = file
            return
        export.path = os.path.join(self._folder, f"export-{export.id}.txt")
        with open(f"{export.path}.draft", "wb") as log:
            lines = report.write_chunks(file.part(0, file.nbytes), report.CHUNK_BYTES, log.write)
        os.replace(f"{export.path}.draft", export.path)
        export.facts.update(file=f"{self._shown}/export-{export.id}.txt", lines=lines)


def _range(asked: str | None, nbytes: int) -> tuple[int, int]:
    if asked is None:
        return 0, nbytes
    try:
        unit, _, span = asked.partition("=")
        first, _, last = span.partition("-")
        start = int(first)
        stop = min(int(last) + 1, nbytes) if last else nbytes
    except ValueError:
        unit, start, stop = "", 0, 0
    if unit.strip() != "bytes" or not 0 <= start < stop:
        raise Problem("Invalid", f"the range {asked!r} is not within the {nbytes} bytes of the file")
    return start, stop


def _problem(key: str, error: Exception) -> Problem:
    import ray

    cause = getattr(error, "cause", None) or error
    if isinstance(cause, (ray.exceptions.ObjectLostError, ray.exceptions.RayActorError)):
        return Problem(
            "Lost", f"the value {key} is lost: {cause}"[:2000], "clear the task that made it, to run it again"
        )
    return Problem("Unavailable", f"the value {key} can't be sent: {type(cause).__name__}: {cause}"[:2000])


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
