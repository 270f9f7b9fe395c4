"""
Runs of strings, without the pickler's memory.

A pickler remembers every string in case it comes again, which is most of what pickling a column of names costs. For a
run of nothing but strings, numbers and ``None`` that is not needed: nothing in it can be changed, so nobody can tell
whether two equal strings were one.

An array of strings, with a few other values among them, goes as one piece of text and the strings' lengths. Any other
run, and one that UTF-8 can't say, is pickled in parts that fit into a processor's cache.
"""

from __future__ import annotations

import pickle
import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

from airfreight._store import fill_texts, pack_texts

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

#: Lengths, text, and the values among the strings that are none. Part of the object format.
Texts = tuple[Any, Any, list[Any]]


def is_varied(run: Any) -> bool:
    """Whether a list or a one-dimensional array is long and consists of different objects."""
    length = len(run)
    if length < _SAMPLE:
        return False
    return len(set(map(id, _as_list(run[:: length // _SAMPLE])[:_SAMPLE]))) >= _DIFFERENT_MIN


def texts(run: Any) -> Texts | None:
    """
    Takes a contiguous one-dimensional array of objects as text.

    :returns: ``None`` when it holds anything else than strings and a few atoms, or repeats itself so much that it isn't
        worth it.
    """
    if not is_varied(run):
        return None
    packed = pack_texts(run, _atoms())
    if packed is None:
        return None
    lengths, text, others = packed
    return pickle.PickleBuffer(lengths), pickle.PickleBuffer(text), others


def _atoms() -> frozenset[type]:
    """What may be among the strings: nobody can change it or see whether two of them are one."""
    pandas = sys.modules.get("pandas")
    return _ATOMS if pandas is None else _ATOMS | {type(pandas.NA), type(pandas.NaT)}


def fill(array: Any, run: Texts) -> None:
    """Restores what :func:`texts` took, into an array of its length."""
    fill_texts(array, *run)


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
