"""
The object format (docs/design/object.md) in pure Python: what a value is on its way between cluster and host.

Header and footer are checked with their CRC-64; the payload's is left out, since whoever carries the file has its own.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .packed import Packed
from .problem import Problem

if TYPE_CHECKING:
    Record = dict[str, Any]

MAGIC = b"AFREIGHT"
VERSION = 1
HEADER_BYTES = 128
#: What of a file has a checksum of its own on its way.
CHUNK_BYTES = 4 * 1024 * 1024
_ALIGNMENT = 64

# magic, version, flags, header, id, file, stream, payload, table, buffers, metadata, created, payload CRC, footer CRC
_HEADER = struct.Struct("<8sHHI16sQQQQIIqQQ")
_CRC = struct.Struct("<Q")
_ENTRY = struct.Struct("<QQ")

# CRC-64/NVME, reflected.
_POLYNOMIAL = 0x9A6C9329AC4BC9B5
_ONES = 0xFFFF_FFFF_FFFF_FFFF


def pieces(packed: Packed, name: str) -> list[Any]:
    """
    The file of a value, as pieces of memory one after the other; those of the value are not copied.

    The same value has the same file each time, so that who has a part of it can go on.

    :param name: what the value is called in this cluster, see :func:`name_of`.
    """
    placed: list[Any] = [packed.stream]
    position = HEADER_BYTES + len(packed.stream)
    table = []
    for buffer in packed.buffers:
        gap = -position % _ALIGNMENT
        placed += [bytes(gap), buffer]
        table.append(_ENTRY.pack(position + gap, len(buffer)))
        position += gap + len(buffer)
    gap = -position % _ALIGNMENT
    placed.append(bytes(gap))
    table_offset = position + gap
    facts = packed.facts
    metadata: Record = {name: facts[name] for name in ("type", "codec", "preview", "elements") if name in facts}
    metadata.setdefault("codec", "pickle5")
    metadata.setdefault("preview", {})
    text = json.dumps(metadata, sort_keys=True).encode()
    footer = b"".join(table) + text
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        0,
        HEADER_BYTES,
        hashlib.sha256(name.encode()).digest()[:16],
        table_offset + len(footer),
        len(packed.stream),
        packed.nbytes,
        table_offset,
        len(packed.buffers),
        len(text),
        int(facts.get("created", 0)),
        0,
        crc64(footer),
    )
    header = header.ljust(HEADER_BYTES - _CRC.size, b"\0")
    header += _CRC.pack(crc64(header))
    return [piece for piece in (header, *placed, footer) if len(piece)]


def name_of(owner: str, generation: str, key: str) -> str:
    """What an object's id is made of: the same on every way out."""
    return f"{owner}\0{generation}\0{key}"


def file_bytes(packed: Packed) -> int:
    """How long the file of a value is."""
    return sum(map(len, pieces(packed, "")))


def parse(view: memoryview, *, sums: bool = True) -> Packed:
    """
    The value in an object file, over the file's own memory.

    :param sums: whether its checksums are looked at, as they are when it has come from elsewhere.
    :raises Problem: it isn't one, or not a whole one.
    """
    if len(view) < HEADER_BYTES:
        raise _corrupt(f"it has {len(view)} bytes")
    header = bytes(view[:HEADER_BYTES])
    fields = _HEADER.unpack_from(header)
    magic, version, _, header_bytes, _, file_bytes, stream_bytes, payload_bytes, table_offset = fields[:9]
    count, metadata_bytes, created, _, footer_crc = fields[9:]
    if magic != MAGIC:
        raise _corrupt("it doesn't begin as one")
    if version > VERSION:
        raise Problem(
            "Invalid", f"the object has format {version}, and this runner knows {VERSION}", "update Airfreight"
        )
    if sums and crc64(header[:-8]) != _CRC.unpack(header[-8:])[0]:
        raise _corrupt("its header doesn't match its checksum")
    table_end = table_offset + _ENTRY.size * count
    if header_bytes != HEADER_BYTES or table_end + metadata_bytes != file_bytes or file_bytes > len(view):
        raise _corrupt(f"its header speaks of {file_bytes} bytes, and there are {len(view)}")
    if HEADER_BYTES + stream_bytes > table_offset:
        raise _corrupt("its stream is longer than itself")
    footer = bytes(view[table_offset:file_bytes])
    if sums and crc64(footer) != footer_crc:
        raise _corrupt("its footer doesn't match its checksum")
    end = HEADER_BYTES + stream_bytes
    buffers = []
    for index in range(count):
        offset, length = _ENTRY.unpack_from(footer, index * _ENTRY.size)
        if offset % _ALIGNMENT or offset < end or offset + length > table_offset:
            raise _corrupt(f"buffer {index} is not where it can be")
        end = offset + length
        buffers.append(view[offset:end])
    facts = json.loads(footer[_ENTRY.size * count :])
    packed = Packed(view[HEADER_BYTES : HEADER_BYTES + stream_bytes], buffers, {**facts, "created": created})
    if packed.nbytes != payload_bytes:
        raise _corrupt("its parts don't add up")
    return packed


def crc64(data: bytes) -> int:
    """CRC-64/NVME; for short pieces, since it is pure Python."""
    table = _table()
    crc = _ONES
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _ONES


@lru_cache(maxsize=None)
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def _corrupt(why: str) -> Problem:
    return Problem("Corrupt", f"what was sent is not a whole object file: {why}", "send it again")


class File:
    """An object file that is nowhere: pieces of memory, one after the other."""

    def __init__(self, pieces: list[Any]) -> None:
        self._pieces = [memoryview(piece).cast("B") for piece in pieces]
        self._ends = list(itertools.accumulate(map(len, self._pieces)))
        self.nbytes: int = self._ends[-1]

    def part(self, start: int, stop: int) -> list[memoryview]:
        """The bytes from ``start`` to ``stop``, as views."""
        found = []
        index = bisect.bisect_right(self._ends, start)
        while start < stop:
            begin = self._ends[index] - len(self._pieces[index])
            found.append(self._pieces[index][start - begin : stop - begin])
            start += len(found[-1])
            index += 1
        return found

    def checksums(self) -> list[int]:
        """The CRC-32 of each chunk."""
        starts = range(0, self.nbytes, CHUNK_BYTES)
        return [self.checksum(start, min(start + CHUNK_BYTES, self.nbytes)) for start in starts]

    def checksum(self, start: int, stop: int) -> int:
        """The CRC-32 of the bytes from ``start`` to ``stop``."""
        crc = 0
        for piece in self.part(start, stop):
            crc = zlib.crc32(piece, crc)
        return crc
