"""
What a pickler writes to, between it and the store.

Large ``bytes``, ``bytearray`` and ``str`` can't be hooked in a pickler, but it hands each of them over in one piece,
uncopied. Here they are diverted to buffers of their own, which leaves a gap in the stream; the note at the end says
where. Who reads fills the gaps while the unpickler asks for them (:mod:`airfreight.codec.stream`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from airfreight.codec import dagfile, note

if TYPE_CHECKING:
    from collections.abc import Callable

# A pickler's frames are 64 KiB and a bit. What is longer is one value; below this, a copy costs less than a gap.
_GAP_BYTES_MIN = 256 * 1024


class Target(Protocol):
    """What takes the stream and the buffers: the store's ``Writer``."""

    def write(self, data: Any, /) -> int: ...

    def add_buffer(self, buffer: Any, /) -> bool: ...


class Sink:
    """
    Passes a pickle stream and its buffers on to a writer, and keeps account of both.

    :param target: takes them.
    """

    __slots__ = ("_add_buffer", "_dag_files", "_gaps", "_write", "buffers", "position")

    def __init__(self, target: Target) -> None:
        self._write: Callable[[Any], int] = target.write
        self._add_buffer: Callable[[Any], bool] = target.add_buffer
        #: How long the stream is so far.
        self.position = 0
        #: How many buffers there are so far.
        self.buffers = 0
        self._gaps: list[tuple[int, int]] | None = None
        self._dag_files: set[bytes] | None = set() if dagfile.any_loaded() else None

    def write(self, data: Any, /) -> int:
        """Takes a part of the stream: a frame, or one long value."""
        length = len(data) if type(data) is bytes else memoryview(data).nbytes
        if length >= _GAP_BYTES_MIN and not self._add_buffer(data):
            if self._gaps is None:
                self._gaps = []
            self._gaps.append((self.position, self.buffers))
            self.buffers += 1
            return length
        # A long buffer that stays in the stream comes as it is; names are in frames, which are bytes.
        if self._dag_files is not None and type(data) is bytes and length < _GAP_BYTES_MIN:
            dagfile.mentioned(data, self._dag_files)
        self._write(data)
        self.position += length
        return length

    def add_buffer(self, buffer: Any, /) -> bool:
        """Takes an out-of-band buffer; true keeps it in the stream."""
        try:
            kept = self._add_buffer(buffer)
        except BufferError:
            # Without dimensions; a number, then.
            return True
        if not kept:
            self.buffers += 1
        return kept

    def finish(self, facts: dict[str, Any] | None = None) -> None:
        """
        Ends the stream with a note, if there is anything to note.

        :param facts: what else to note.
        """
        if facts is None and self._gaps is None and not self._dag_files:
            return
        facts = facts or {}
        if self._gaps is not None:
            facts["gaps"] = self._gaps
        if self._dag_files:
            facts["dag_files"] = dagfile.describe_all(self._dag_files)
        self._write(note.encode(facts))
