"""Values into objects of the store and back."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airfreight.codec import dagfile, elementwise, large, plain
from airfreight.codec.pickler import make_pickler
from airfreight.codec.preview import describe
from airfreight.codec.refusal import explain, type_name
from airfreight.codec.stream import recover
from airfreight.errors import AirfreightError, CorruptError, DeniedError

if TYPE_CHECKING:
    from airfreight._store import Object, Store, Writer

# What every protocol 5 pickle begins with, and nothing else that we write.
_PICKLE = 0x80


@dataclass(frozen=True, slots=True)
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

    name: str
    nbytes: int
    type: str
    preview: dict[str, Any]
    codec: str
    elements: int | None = None


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
        if elements and allow_pickle and elementwise.fits(value):
            count = elementwise.encode(writer, value)
            if count is None:
                writer.abort()
                writer = store.create()
        if count is None:
            encode(writer, value, allow_pickle=allow_pickle)
        codec = "pickle5" if allow_pickle else "plain"
        if preview:
            name_of_type, shown = describe(value)
        else:
            name_of_type, shown = type_name(value), {}
        nbytes = writer.nbytes
        metadata: dict[str, Any] = {"type": name_of_type, "codec": codec, "preview": shown}
        if owner:
            metadata["owner"] = owner
        if count is not None:
            metadata["elements"] = count
        name = writer.seal(json.dumps(metadata))
    except BaseException:
        writer.abort()
        raise
    return Stored(name, nbytes, name_of_type, shown, codec, count)


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
    stream = stored.stream
    if elementwise.is_elementwise(stream):
        _require(allow_pickle, stored)
        return elementwise.decode_one(stream, stored.buffers, index)
    value = decode(stored, allow_pickle=allow_pickle)
    if isinstance(value, dict):
        value = list(value.items())
    return value[index]


def encode(writer: Writer, value: Any, *, allow_pickle: bool = True) -> None:
    """
    Writes a value into an object that is being made; the caller seals or aborts it.

    :raises UnstorableError: a part of the value can't be stored.
    """
    if not allow_pickle:
        plain.encode(writer, value)
        return
    sink = dagfile.Watch(writer) if dagfile.any_loaded() else writer
    try:
        if large.is_within(value):
            large.dump(sink, writer.add_buffer, value)
        else:
            make_pickler(sink, writer.add_buffer).dump(value)
    except (AirfreightError, MemoryError):
        raise
    except Exception as error:
        raise explain(value, error) from error
    if sink is not writer:
        sink.finish()


def decode(stored: Object, *, allow_pickle: bool = True) -> Any:
    """Reads the value of an open object; see :func:`get`."""
    stream = stored.stream
    if len(stream) == 0:
        raise CorruptError(f"object {stored.name} holds no value")
    if stream[0] == _PICKLE:
        if not allow_pickle:
            _require(allow_pickle, stored)
        try:
            return pickle.loads(stream, buffers=stored.buffers)
        except Exception as error:
            return recover(error, lambda: pickle.loads(stream, buffers=stored.buffers), stream)
    if plain.is_plain(stream):
        return plain.decode(stream, stored.buffers)
    _require(allow_pickle, stored)
    if large.is_large(stream):
        return large.load(stream, stored.buffers)
    if elementwise.is_elementwise(stream):
        return elementwise.decode(stream, stored.buffers)
    raise CorruptError(
        f"object {stored.name} is in a form that this version does not know",
        "it was written by a newer Airfreight, or by another program",
    )


def _require(allow_pickle: bool, stored: Object) -> None:
    if not allow_pickle:
        raise DeniedError(
            f"object {stored.name} is a pickle, and [airfreight] allow_pickle is false here",
            "rerun the task that made it with allow_pickle = false as well, or allow pickle for both",
        )
