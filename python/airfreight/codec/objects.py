"""Values into objects of the store and back."""

from __future__ import annotations

import json
import pickle
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airfreight.codec import note
from airfreight.codec.pickler import dump
from airfreight.codec.preview import describe
from airfreight.codec.refusal import explain, type_name
from airfreight.errors import AirfreightError, CorruptError, DeniedError

if TYPE_CHECKING:
    from airfreight._store import Object, Store, Writer
    from airfreight.codec.elementwise import Elements

# What every protocol 5 pickle begins with, and nothing else that we write.
_PICKLE = 0x80


# Not a named tuple: making that class takes a forked task most of a millisecond.
class Stored:
    """
    What became of a value.

    :param name: the object's name in the store.
    :param nbytes: its payload.
    :param type: the value's type, as one would import it.
    :param preview: a bounded description of the value; empty when none was asked for.
    :param codec: how it was encoded: ``pickle5`` or ``plain``.
    :param elements: how many elements can be read one at a time; ``None`` when the value can only be read whole.
    """

    __slots__ = ("codec", "elements", "name", "nbytes", "preview", "type")

    def __init__(
        self, name: str, nbytes: int, type_: str, preview: dict[str, Any], codec: str, elements: int | None = None
    ) -> None:
        self.name = name
        self.nbytes = nbytes
        self.type = type_
        self.preview = preview
        self.codec = codec
        self.elements = elements

    def __repr__(self) -> str:
        return f"Stored({self.name!r}, {self.nbytes} bytes, {self.type})"


def put(
    store: Store,
    value: Any,
    *,
    owner: dict[str, Any] | None = None,
    allow_pickle: bool = True,
    preview: bool = True,
    elements: bool = False,
) -> Stored:
    """
    Stores a value as one object.

    :param store: where to.
    :param value: what; it is not changed, nor consumed.
    :param owner: which task wrote it, kept with the object.
    :param allow_pickle: ``False`` stores only what can be read back without running code, see :mod:`.plain`.
    :param preview: describe the value in the object's metadata.
    :param elements: let a list, tuple or dict be read one element at a time, if its elements share nothing.
    :raises UnstorableError: a part of the value can't be stored; the store is as before.
    :raises StoreFullError: there is no room for it; the store is as before.
    """
    writer = store.create()
    count = None
    try:
        if elements and allow_pickle:
            from airfreight.codec import elementwise

            if elementwise.fits(value):
                count = elementwise.encode(writer, value)
                if count is None:
                    writer.abort()
                    writer = store.create()
        if count is None:
            encode(writer, value, allow_pickle=allow_pickle)
        codec = "pickle5" if allow_pickle else "plain"
        name_of_type, shown = describe(value) if preview else (type_name(value), {})
        nbytes = writer.nbytes
        name = writer.seal(_metadata(name_of_type, codec, shown, owner, count))
    except BaseException:
        writer.abort()
        raise
    return Stored(name, nbytes, name_of_type, shown, codec, count)


def _metadata(
    name_of_type: str, codec: str, preview: dict[str, Any], owner: dict[str, Any] | None, count: int | None
) -> str:
    if not preview and owner is None and count is None:
        return _bare_metadata(name_of_type, codec)
    metadata: dict[str, Any] = {"type": name_of_type, "codec": codec, "preview": preview}
    if owner is not None:
        metadata["owner"] = owner
    if count is not None:
        metadata["elements"] = count
    return json.dumps(metadata)


@lru_cache(256)
def _bare_metadata(name_of_type: str, codec: str) -> str:
    return json.dumps({"type": name_of_type, "codec": codec, "preview": {}})


def get(store: Store, name: str, *, allow_pickle: bool = True, writable: bool = True) -> Any:
    """
    Reads a value; what it costs does not depend on the size of the memory that it maps.

    :param store: where it is.
    :param name: what :func:`put` called it.
    :param allow_pickle: ``False`` refuses what could run code when it is read.
    :param writable: map its memory privately and writable; ``False`` maps it read-only.
    :raises ObjectNotFoundError: the store doesn't have it.
    :raises DeniedError: it is a pickle and ``allow_pickle`` is false.
    :raises InvalidError: something that the value is made of can't be imported here.
    """
    return decode(store.get(name, writable=writable), allow_pickle=allow_pickle)


def get_element(store: Store, name: str, index: int, *, allow_pickle: bool = True, writable: bool = True) -> Any:
    """
    Reads one element of a stored list, tuple or dict; of a dict, the pair of key and value at that place.

    Of an object that was stored with ``elements``, nothing else is read; of another, the whole value.

    :raises IndexError: there is no such element.
    """
    stored = store.get(name, writable=writable)
    elements = _elements(stored) if allow_pickle else None
    if elements is not None:
        return elements.one(index)
    value = decode(stored, allow_pickle=allow_pickle)
    return list(value.items())[index] if isinstance(value, dict) else value[index]


def _elements(stored: Object) -> Elements | None:
    stream = stored.stream
    if stream[0] != _PICKLE or stream[-1] == note.STOP:
        return None
    _, facts = note.read(stream)
    if "elements" not in facts:
        return None
    from airfreight.codec.elementwise import Elements

    return Elements(stream, stored.buffers, facts)


def encode(writer: Writer, value: Any, *, allow_pickle: bool = True) -> None:
    """
    Writes a value into an object that is being made; the caller seals or aborts it.

    :raises UnstorableError: a part of the value can't be stored.
    """
    if not allow_pickle:
        from airfreight.codec import plain

        plain.encode(writer, value)
        return
    try:
        dump(value, writer)
    except (AirfreightError, MemoryError):
        raise
    except Exception as error:
        raise explain(value, error) from error


def decode(stored: Object, *, allow_pickle: bool = True) -> Any:
    """Reads the value of an open object; see :func:`get`."""
    # Of a module that is still being imported, it may not be there yet.
    ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)
    if allow_pickle and ndarray is not None:
        array = stored.array(ndarray)
        if array is not None:
            return array
    stream = stored.stream
    if len(stream) == 0:
        raise CorruptError(f"object {stored.name} holds no value")
    if stream[0] != _PICKLE:
        from airfreight.codec import plain

        if plain.is_plain(stream):
            return plain.decode(stream, stored.buffers)
        raise CorruptError(
            f"object {stored.name} is in a form that this version does not know",
            "it was written by a newer Airfreight, or by another program",
        )
    if not allow_pickle:
        raise DeniedError(
            f"object {stored.name} is a pickle, and [airfreight] allow_pickle is false here",
            "rerun the task that made it with allow_pickle = false as well, or allow pickle for both",
        )
    if stream[-1] == note.STOP:
        buffers = stored.buffers
        try:
            return pickle.loads(stream, buffers=buffers)
        except Exception as error:
            from airfreight.codec.stream import failed

            raise failed(error) from error
    elements = _elements(stored)
    if elements is not None:
        return elements.whole()
    from airfreight.codec.stream import load

    return load(stream, stored.buffers)
