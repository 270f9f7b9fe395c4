"""One object file on its way into the cluster, which comes in chunks, in any order and from many at once."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

from . import importing, objectfile, room
from .problem import Problem

if TYPE_CHECKING:
    from .server import Stream

    Record = dict[str, Any]

#: Who still writes when all has come has so long to end, and as long again to notice that it was cut off.
_LEAVE_SECONDS = 1.0


class InFile:
    """
    A file that grows.

    :param path: where; ``None``: in memory, under no name, so that it goes with the runner.
    """

    def __init__(self, path: str | None) -> None:
        self._named = path
        if path is None:
            self._file = os.memfd_create("airfreight-upload", os.MFD_CLOEXEC)
        else:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        #: Where another process of this node finds it.
        self.path = path or f"/proc/{os.getpid()}/fd/{self._file}"
        self.takes_memory = path is None
        #: Anybody's.
        self.owner = None

    def receive(self, offset: int, length: int, stream: Stream) -> int:
        """Writes what comes; gives its checksum."""
        crc = 0
        for piece in stream.pieces(length):
            crc = zlib.crc32(piece, crc)
            self.write(piece, offset)
            offset += len(piece)
        return crc

    def write(self, data: memoryview, position: int) -> None:
        try:
            while len(data):
                count = os.pwrite(self._file, data, position)
                data = data[count:]
                position += count
        except OSError as error:
            raise Problem("Full", f"can't write a value on the head: {error.strerror}", "make room there") from error

    def source(self) -> Record:
        """For the owner, which copies it into Ray's store."""
        return {"path": self.path}

    def abandon(self) -> None:
        """Takes the name away; who is still writing to the file writes to what nobody reads."""
        if self._named is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._named)

    def close(self) -> None:
        os.close(self._file)


class InRay:
    """
    An object of Ray's that is filled: see :mod:`.room`.

    :param owner: the actor that has made it.
    :param ref: the reference, which nobody else has.
    :param view: what Ray gives of it.
    :param place: the same memory, to be written to.
    """

    #: Of its own.
    takes_memory = False

    def __init__(self, owner: Any, ref: Any, view: memoryview, place: memoryview) -> None:
        self.owner = owner
        self._ref: Any = ref
        self._view: Any = view
        self._place: Any = place

    @classmethod
    def of(cls, owner: Any, ref: Any, found: room.Room) -> InRay | None:
        """``None``: this Ray doesn't let one write to it."""
        place = room.writable(found.view)
        return None if place is None else cls(owner, ref, found.view, place)

    def receive(self, offset: int, length: int, stream: Stream) -> int:
        """Reads what comes to its place, and sums it up while it is in the processor's cache; gives its checksum."""
        crc = 0
        for piece in stream.pieces_into(self._place[offset : offset + length]):
            crc = zlib.crc32(piece, crc)
        return crc

    def write(self, data: memoryview, position: int) -> None:
        self._place[position : position + len(data)] = data

    def source(self) -> Record:
        """For the owner, which has nothing left to do but to keep it."""
        return {"refs": [self._ref], "facts": importing.facts_of(objectfile.parse(self._view))}

    def abandon(self) -> None:
        pass

    def close(self) -> None:
        self._place = self._view = self._ref = None


class Upload:
    """
    What has come of a file.

    :param nbytes: how long it is to be.
    :param landing: where its bytes go.
    """

    def __init__(self, nbytes: int, landing: InFile | InRay) -> None:
        self.nbytes = nbytes
        self.used_at = time.monotonic()
        self.received = 0
        self._landing = landing
        self._changed = threading.Condition()
        #: Where chunks begin and end that have come, apart from those at the beginning.
        self._apart: dict[int, int] = {}
        self._writers: list[Stream] = []
        self._complete = False
        self._removed = False

    @property
    def owner(self) -> Any:
        """The actor that alone can make a value of it; ``None``: any."""
        return self._landing.owner

    @property
    def promised_bytes(self) -> int:
        """What of the node's memory it is going to take."""
        return self.nbytes - self.received if self._landing.takes_memory else 0

    def take(self, offset: int, length: int, checksum: int, stream: Stream) -> bool:
        """
        Writes a chunk, which counts when its checksum is right.

        :returns: false: this upload is no more.
        """
        with self._changed:
            if self._removed:
                return False
            if self._complete:
                return True
            self._writers.append(stream)
        is_right = False
        try:
            is_right = self._landing.receive(offset, length, stream) == checksum
        finally:
            with self._changed:
                self.used_at = time.monotonic()
                self._writers.remove(stream)
                if is_right:
                    self._count(offset, length)
                else:
                    # Nor does what had come before at its place.
                    self._forget(offset, length)
                self._changed.notify_all()
                self._close_if_unused()
        if not is_right:
            raise Problem("Corrupt", f"the chunk at {offset} has changed on its way", "send it again")
        return True

    def append(self, data: Any) -> None:
        """Writes what comes next, of a source that comes in order."""
        piece = memoryview(data)
        if self.received + len(piece) > self.nbytes:
            raise Problem("Corrupt", f"more than the {self.nbytes} bytes of the value have come", "send it again")
        self._landing.write(piece, self.received)
        self.received += len(piece)
        self.used_at = time.monotonic()

    def complete(self) -> Record:
        """Ends the receiving once everything is there; gives what the owner makes the value of."""
        with self._changed:
            self._complete = True
            if not self._changed.wait_for(lambda: not self._writers, _LEAVE_SECONDS):
                for stream in self._writers:
                    # It sends what has come already; what it wrote later would be in the value.
                    stream.cut()
            if not self._changed.wait_for(lambda: not self._writers, _LEAVE_SECONDS):
                raise Problem("Conflict", "others are still sending the same value", "finish once more")
            if self.received < self.nbytes:
                # One of them has written over what had come, and not to its end.
                self._complete = False
                raise Problem("Conflict", f"{self.received} of {self.nbytes} bytes have come", "send the rest")
        return self._landing.source()

    def remove(self) -> None:
        """Takes it away, when the last one that writes to it has left."""
        with self._changed:
            self._removed = True
            self._landing.abandon()
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        # A descriptor or memory that is given back under a writer may be another's a moment later.
        if self._removed and not self._writers:
            self._landing.close()

    def _count(self, offset: int, length: int) -> None:
        self._apart[offset] = max(self._apart.get(offset, 0), offset + length)
        for start in sorted(self._apart):
            if start > self.received:
                break
            self.received = max(self.received, self._apart.pop(start))

    def _forget(self, offset: int, length: int) -> None:
        """A chunk that came a second time, damaged or not to its end, is written over the first."""
        self.received = min(self.received, offset)
        apart = list(self._apart.items())
        for start in [start for start, end in apart if start < offset + length and end > offset]:
            del self._apart[start]
