"""Tasks that make values of what comes from elsewhere."""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING, Any

from . import objectfile, room

if TYPE_CHECKING:
    from .packed import Packed

    Record = dict[str, Any]


def copied(value: Any) -> tuple[bool, Any]:
    """The same value, as one of who has asked for it; the first tells that it is there."""
    return True, value


def emptied(nbytes: int) -> tuple[bool, room.Room]:
    """Room for an object file; the first tells that it is there."""
    return True, room.empty(nbytes)


def imported(path: str) -> tuple[str, Packed]:
    """
    The value in an object file, and what is told of it.

    :param path: the file; its pages are copied once, into Ray's store.
    """
    with open(path, "rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    packed = objectfile.parse(view)
    return json.dumps(facts_of(packed)), packed


def facts_of(packed: Packed) -> Record:
    """What an owner tells of a value that came as an object file."""
    facts: Record = {"nbytes": packed.nbytes, "file_bytes": objectfile.file_bytes(packed), "form": "packed"}
    facts.update({name: packed.facts.get(name) for name in ("type", "preview")})
    return facts
