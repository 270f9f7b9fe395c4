"""
Values that can be read back without running code: what ``allow_pickle = false`` leaves.

JSON's own types, ``bytes``, ``bytearray``, tuples, sets, NumPy arrays without Python objects, Arrow data, pandas frames
and series of such columns, and lists and dicts of all these. Anything else is refused when it is written. The stream is
a magic and a JSON document; long memory goes to buffers. Reading constructs these types and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airfreight.codec.sink import Target

MAGIC = b"AFPLAIN1"


def encode(target: Target, value: Any) -> None:
    """
    Writes a value.

    :raises UnstorableError: a part of it would need pickle.
    """
    from airfreight.codec.plain.writer import Encoder

    target.write(MAGIC + Encoder(target).document(value))


def is_plain(stream: memoryview) -> bool:
    """Whether a stream was written by :func:`encode`."""
    return bytes(stream[: len(MAGIC)]) == MAGIC


def decode(stream: memoryview, buffers: Any) -> Any:
    """
    Reads a value.

    :raises CorruptError: the document is not one that :func:`encode` writes.
    """
    from airfreight.codec.plain.reader import Reader

    return Reader(buffers).document(bytes(stream[len(MAGIC) :]))
