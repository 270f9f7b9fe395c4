"""
Runs of strings, pickled without the pickler's memory.

A pickler remembers every string in case it comes again, which is most of what pickling a column of names costs. For a
run of nothing but strings, numbers and ``None`` that is not needed: nothing in it can be changed, so nobody can tell
whether two equal strings were one. A run is pickled in parts that fit into a processor's cache.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATOMS = frozenset({str, type(None), float, int, bool})

# Of so many elements at regular distances …
_SAMPLE = 512
# … this many must be different objects; otherwise the pickler's memory makes the object smaller and the reader as
# frugal as the writer was (few strings, many pointers to them).
_DIFFERENT_MIN = 384

_PART_LENGTH = 16_384

#: A buffer of pickled lists, and where each ends in it. Part of the object format.
Packed = tuple[Any, list[int]]


def is_varied(run: Any) -> bool:
    """Whether a list or a one-dimensional array is long and consists of different objects."""
    length = len(run)
    if length < _SAMPLE:
        return False
    return len(set(map(id, _as_list(run[:: length // _SAMPLE])[:_SAMPLE]))) >= _DIFFERENT_MIN


def pack(run: Any) -> Packed | None:
    """
    Packs a list or a one-dimensional array of objects.

    :returns: ``None`` when it holds anything else, or is so short or repeats itself so much that it isn't worth it.
    """
    if not is_varied(run):
        return None
    length = len(run)
    sink = BytesIO()
    ends = []
    for start in range(0, length, _PART_LENGTH):
        part = _as_list(run[start : start + _PART_LENGTH])
        types = list(map(type, part))
        if types.count(str) != len(part) and not _ATOMS.issuperset(types):
            return None
        pickler = pickle.Pickler(sink, 5)
        pickler.fast = True  # no memory
        pickler.dump(part)
        ends.append(sink.tell())
    return pickle.PickleBuffer(sink.getbuffer()), ends


def _as_list(part: Any) -> list[Any]:
    return part if type(part) is list else part.tolist()


def unpack(packed: Packed) -> Iterator[list[Any]]:
    """Restores what :func:`pack` packed, part by part."""
    buffer, ends = packed
    view = memoryview(buffer)
    start = 0
    for end in ends:
        yield pickle.loads(view[start:end])
        start = end
