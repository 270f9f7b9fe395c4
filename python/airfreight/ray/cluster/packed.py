"""
How a value lies in Ray: as the codec's stream and buffers, which Ray keeps outside of its own pickle.

It is decoded where it is used, over the very pages in which Ray has it. Whoever moves it, to a file or to another
cluster, needs no library of the value's.

A value that an older Airfreight has written is read by a newer one: the name of :func:`unpack` and its arguments stay.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from .classes import lend

if TYPE_CHECKING:
    from airfreight.ray.report import Parts

# A shorter stream stays in Ray's pickle, which has a smaller overhead there.
_STREAM_BYTES_MIN = 16 * 1024

_STOP = 0x2E
_PLAIN = b"AFPLAIN1"


class Packed:
    """
    A value as stream and buffers.

    :param facts: what is known of it without reading it: ``type``, ``preview``, ``codec``, ``created`` (nanoseconds).
    """

    __slots__ = ("buffers", "classes", "facts", "stream")

    def __init__(self, stream: Any, buffers: list[Any], facts: dict[str, Any], classes: bytes | None = None) -> None:
        #: Those that only the file of the task defines that has made the value.
        self.classes = classes
        self.stream = memoryview(stream).cast("B")
        self.buffers = [memoryview(buffer).cast("B") for buffer in buffers]
        self.facts = facts

    @classmethod
    def of(cls, parts: Parts, facts: dict[str, Any]) -> Packed:
        """A value that was taken apart."""
        return cls(b"".join(parts.stream), parts.buffers, facts)

    @property
    def nbytes(self) -> int:
        return len(self.stream) + sum(map(len, self.buffers))

    def value(self) -> Any:
        """The value itself. Its arrays lie over the buffers, so they can't be changed in place."""
        if self.classes is not None:
            lend(self.classes)
        if bytes(self.stream[: len(_PLAIN)]) == _PLAIN:
            from airfreight.codec import plain

            return plain.decode(self.stream, self.buffers)
        try:
            from airfreight.codec import elementwise, note, stream
        except (ImportError, SyntaxError, TypeError):
            # A Python before the codec's, which therefore has written it without.
            return pickle.loads(self.stream, buffers=self.buffers)
        if self.stream[-1] != _STOP:
            _, facts = note.read(self.stream)
            if "elements" in facts:
                return elementwise.Elements(self.stream, self.buffers, facts).whole()
        return stream.load(self.stream, self.buffers)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if protocol < 5:
            copies = [bytes(buffer) for buffer in self.buffers]
            return unpack, (bytes(self.stream), copies, self.facts, self.classes)
        long = len(self.stream) >= _STREAM_BYTES_MIN
        stream = pickle.PickleBuffer(self.stream) if long else bytes(self.stream)
        return unpack, (stream, [pickle.PickleBuffer(buffer) for buffer in self.buffers], self.facts, self.classes)


class Native:
    """
    A value that only Ray can keep, because it holds references to more of Ray's objects.

    :param value: itself.
    :param facts: as those of :class:`Packed`.
    """

    __slots__ = ("facts", "kept")

    def __init__(self, value: Any, facts: dict[str, Any]) -> None:
        self.kept = value
        self.facts = facts

    def value(self) -> Any:
        return self.kept

    def __reduce__(self) -> Any:
        return keep, (self.kept, self.facts)


def unpack(stream: Any, buffers: list[Any], facts: dict[str, Any], classes: bytes | None = None) -> Packed:
    """Rebuilds a :class:`Packed`; what is in Ray refers to this function."""
    return Packed(stream, buffers, facts, classes)


def keep(value: Any, facts: dict[str, Any]) -> Native:
    """Rebuilds a :class:`Native`; what is in Ray refers to this function."""
    return Native(value, facts)
