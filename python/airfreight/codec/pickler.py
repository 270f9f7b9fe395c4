"""A pickler that knows which reducer each type needs, at the price of one C dictionary look-up per object."""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any, Protocol

from airfreight.codec.reducers import reducer_for

PROTOCOL = 5

Reducer = Callable[[Any], Any]


class Sink(Protocol):
    """Where the pickle stream goes: the store's ``Writer``, or something in memory."""

    def write(self, data: Any, /) -> int: ...


class _ByType(dict[type, Reducer]):
    """
    A pickler's dispatch table that fills itself.

    A type is looked at once. After that an object of it costs what it costs a bare pickler, which is why there is no
    ``reducer_override``: that one is a Python call for every object. A private table hides ``copyreg``'s, so what is
    registered there is taken over, and taken over anew when there is more of it.
    """

    registered = 0

    def __missing__(self, cls: type) -> Reducer:
        if issubclass(cls, type):
            # A class with a metaclass: pickled by name, as the pickler does when no table mentions it.
            reducer: Reducer = attrgetter("__qualname__")
        else:
            reducer = reducer_for(cls) or copyreg.dispatch_table.get(cls) or methodcaller("__reduce_ex__", PROTOCOL)
        self[cls] = reducer
        return reducer


_reducers = _ByType()


def make_pickler(sink: Sink, buffer_callback: Callable[[Any], Any] | None) -> pickle.Pickler:
    """
    Makes a pickler with our reducers.

    :param sink: takes the stream.
    :param buffer_callback: takes each out-of-band buffer; true from it keeps the buffer in the stream.
    """
    return prepare(pickle.Pickler(sink, PROTOCOL, buffer_callback=buffer_callback))


def prepare(pickler: pickle.Pickler) -> pickle.Pickler:
    """Gives a pickler our reducers."""
    if _reducers.registered != len(copyreg.dispatch_table):
        _reducers.clear()
        _reducers.registered = len(copyreg.dispatch_table)
    pickler.dispatch_table = _reducers
    return pickler
