"""A pickler that knows which reducer each type needs, at the price of one C dictionary look-up per object."""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from operator import attrgetter, methodcaller
from typing import Any

from airfreight.codec.reducers import reducer_for
from airfreight.codec.sink import Sink, Target

PROTOCOL = 5

Reducer = Callable[[Any], Any]


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


def make_pickler(sink: Sink) -> pickle.Pickler:
    """Makes a pickler with our reducers that writes to a sink."""
    if _reducers.registered != len(copyreg.dispatch_table):
        _reducers.clear()
        _reducers.registered = len(copyreg.dispatch_table)
    pickler = pickle.Pickler(sink, PROTOCOL, buffer_callback=sink.add_buffer)
    pickler.dispatch_table = _reducers
    return pickler


def dump(value: Any, target: Target) -> None:
    """
    Pickles a value.

    :param target: takes the stream and the buffers.
    """
    sink = Sink(target)
    make_pickler(sink).dump(value)
    sink.finish()
