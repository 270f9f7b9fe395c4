"""
How Python values become objects in the store and come back: exactly, and without copying what is large.

Pickle 5 is the base. Large memory (arrays, columns, tensors) travels as buffers beside the pickle, straight from the
value into the object, and is mapped when it is read: a value read back is an ordinary one, writable in place, whose
changes never reach the store. What pickle itself copies or gets wrong has reducers of its own
(:mod:`airfreight.codec.reducers`); what can't be stored is refused with its path inside the value
(:mod:`airfreight.codec.refusal`).

Importing this loads none of the libraries whose values it handles, and of the codec what every put and get needs.
Airflow's workers load the rest as well, before they fork their tasks (:mod:`airfreight.xcom`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.codec.objects import Stored, decode, encode, get, get_element, put
from airfreight.codec.preview import describe
from airfreight.codec.refusal import UnstorableError

if TYPE_CHECKING:
    from airfreight.codec.memory import dumps, loads

__all__ = [
    "Stored",
    "UnstorableError",
    "decode",
    "describe",
    "dumps",
    "encode",
    "get",
    "get_element",
    "loads",
    "put",
]


def __getattr__(name: str) -> Any:
    if name in ("dumps", "loads"):
        from airfreight.codec import memory

        return getattr(memory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
