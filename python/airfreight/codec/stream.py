"""Reading a pickle stream, and what to say when that fails."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from airfreight.codec import dagfile, note
from airfreight.errors import AirfreightError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable


def load(stream: Any, buffers: Any, find: Callable[[Any], Any] | None = None) -> Any:
    """
    Unpickles a stream.

    :param stream: the stream, as bytes or a view of them.
    :param buffers: the buffers that belong to it.
    :param find: gives what the stream refers to by a persistent id; no object of the store has any.
    :raises InvalidError: something that the value is made of isn't here.
    """
    if stream[-1] == note.STOP:
        if find is None:
            return attempt(lambda: pickle.loads(stream, buffers=buffers), {})
        end = len(stream)
        facts: dict[str, Any] = {}
    else:
        end, facts = note.read(stream)
    return load_part(memoryview(stream), 0, end, buffers, 0, len(buffers), facts, find)


def load_part(
    stream: memoryview,
    start: int,
    end: int,
    buffers: Any,
    first: int,
    last: int,
    facts: Any,
    find: Callable[[Any], Any] | None = None,
) -> Any:
    """
    Unpickles a part of a stream.

    :param start: where it begins; ``end`` is where it ends.
    :param buffers: all buffers of the object.
    :param first: the number of the part's first buffer; ``last`` is that of the first one that isn't.
    :param facts: the stream's note.
    :param find: see :func:`load`.
    """
    gaps = {position - start: number for position, number in facts.get("gaps", ()) if first <= number < last}
    gap_buffers = frozenset(gaps.values())
    own = [buffers[number] for number in range(first, last) if number not in gap_buffers]
    part = stream[start:end]
    if not gaps and find is None:
        return attempt(lambda: pickle.loads(part, buffers=own), facts)
    fillers = {position: buffers[number] for position, number in gaps.items()}
    unpickler: Any = pickle.Unpickler
    if find is not None:
        unpickler = type("Unpickler", (pickle.Unpickler,), {"persistent_load": staticmethod(find)})
    return attempt(lambda: unpickler(_Filled(part, dict(fillers)), buffers=own).load(), facts)


class _Filled:
    """A stream as a file, in which each gap holds its buffer's bytes. An unpickler asks for those in one piece."""

    def __init__(self, stream: memoryview, fillers: dict[int, Any]) -> None:
        self._stream = stream
        self._fillers = fillers
        self._position = 0

    def read(self, length: int = -1) -> Any:
        filler = self._fillers.get(self._position)
        if filler is not None and length == len(filler):
            del self._fillers[self._position]
            return filler
        start = self._position
        self._position = len(self._stream) if length < 0 else min(start + length, len(self._stream))
        return bytes(self._stream[start : self._position])

    def readinto(self, into: Any) -> int:
        found = self.read(len(into))
        into[: len(found)] = found
        return len(found)

    def readline(self) -> bytes:
        rest = bytes(self._stream[self._position : self._position + 4096])
        return self.read(rest.find(b"\n") + 1 or len(rest))  # type: ignore[no-any-return]


def attempt(read: Callable[[], Any], facts: dict[str, Any]) -> Any:
    """
    Reads, and reads once more if what was missing is a DAG file that the note tells of.

    :param read: unpickles.
    :param facts: the stream's note.
    :raises InvalidError: something that the value is made of isn't here.
    """
    try:
        return read()
    except Exception as error:  # noqa: BLE001
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        failure = error
    if dagfile.import_noted(facts.get("dag_files", {}), missing):
        try:
            return read()
        except Exception as error:  # noqa: BLE001
            failure = error
    raise failed(failure) from failure


def failed(error: Exception) -> Exception:
    """What to raise for an unpickling that failed."""
    if isinstance(error, (AirfreightError, MemoryError)):
        return error
    if isinstance(error, ModuleNotFoundError):
        return InvalidError(
            f"cannot read the value: it holds something of the module {error.name}, which is not installed here",
            "install it in this task's environment, or return plain data from the task that made the value",
        )
    if isinstance(error, AttributeError) and "__main__" in str(error):
        return InvalidError(
            f"cannot read the value: {error}",
            "it was defined in a script that ran by itself; define it in a module that both tasks can import",
        )
    if isinstance(error, (AttributeError, ImportError)):
        return InvalidError(
            f"cannot read the value: {error}",
            "the task that made it had other code, or another version of a library; make both the same and rerun it",
        )
    return InvalidError(
        f"cannot rebuild the value: {type(error).__name__}: {error}",
        "compare the library versions of the task that made the value with this one's",
    )
