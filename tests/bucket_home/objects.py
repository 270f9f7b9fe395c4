"""Objects that go to buckets and come back."""

from __future__ import annotations

from typing import Any

from airfreight._store import Store

#: Above one part, so that an object of as many bytes goes in several.
SEVERAL_PARTS = 20 * 2**20 + 77


def put(store: dict[str, Any], nbytes: int) -> tuple[str, bytes]:
    """Puts an object into the store with these options; gives its name and what its one buffer holds."""
    payload = bytes(i * 2654435761 >> 13 & 255 for i in range(4099)) * (nbytes // 4099 + 1)
    with Store(**store).create() as writer:
        writer.write(b"stream")
        writer.add_buffer(payload[:nbytes])
        return writer.seal("{}"), payload[:nbytes]


def payload_of(store: dict[str, Any], name: str) -> bytes:
    """What the buffers of an object hold."""
    return b"".join(bytes(buffer) for buffer in Store(**store).get(name).buffers)
