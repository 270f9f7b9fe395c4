"""
The note at the end of a stream: what a bare pickle can't say.

A stream that ends with the pickle's last byte has none. Otherwise it ends with a JSON object, its length as a
little-endian u32, and a mark. ``gaps``: where long values were taken out of the stream, as pairs of a position in it
and the number of a buffer. ``dag_files``: where the DAG files are whose classes and functions the value needs, by
module name. ``elements``: how a container was taken apart.
"""

from __future__ import annotations

import json
from typing import Any

from airfreight.errors import CorruptError

_MARK = b"\nAFNOTE1\n"
_TAIL_BYTES = 4 + len(_MARK)

#: The last byte of every pickle.
STOP = 0x2E


def encode(facts: dict[str, Any]) -> bytes:
    text = json.dumps(facts, separators=(",", ":")).encode()
    return text + len(text).to_bytes(4, "little") + _MARK


def read(stream: Any) -> tuple[int, dict[str, Any]]:
    """
    Reads the note of a stream.

    :returns: where the stream itself ends, and the facts; none where there is no note.
    """
    view = memoryview(stream)
    if bytes(view[-len(_MARK) :]) != _MARK:
        return len(view), {}
    length = int.from_bytes(view[-_TAIL_BYTES : -len(_MARK)], "little")
    end = len(view) - _TAIL_BYTES - length
    try:
        return end, dict(json.loads(bytes(view[end:-_TAIL_BYTES])))
    except ValueError as error:
        raise CorruptError("the note at the end of a stream is not readable") from error
