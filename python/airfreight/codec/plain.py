"""Values that can be read back without running code."""

from __future__ import annotations

from typing import Any

_MAGIC = b"AFPLAIN1"


def encode(writer: Any, value: Any) -> None:
    raise NotImplementedError


def is_plain(stream: memoryview) -> bool:
    return bytes(stream[:8]) == _MAGIC


def decode(stream: memoryview, buffers: Any) -> Any:
    raise NotImplementedError
