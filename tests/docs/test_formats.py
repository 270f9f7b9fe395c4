"""
Goal: who has only the documents can read an object. Method: read stored objects with what docs/design says, and nothing
of Airfreight's.
"""

from __future__ import annotations

import base64
import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airfreight import codec
from airfreight._store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = b"\nAFNOTE1\n"


def crc64_nvme(data: bytes) -> int:
    """The checksum as its specification has it, a bit at a time."""
    crc = 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x9A6C9329AC4BC9B5 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFFFFFFFFFF


@dataclass
class Parsed:
    """One object file, taken apart by docs/design/object.md."""

    stream: bytes
    buffers: list[bytes]
    metadata: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Parsed:
        data = path.read_bytes()
        magic, version, flags, header_bytes = struct.unpack_from("<8sHHI", data, 0)
        assert (magic, version, header_bytes) == (b"AFREIGHT", 1, 128)
        assert data[16:32].hex() == path.name[:32]
        file_bytes, stream_bytes, payload_bytes, table_offset = struct.unpack_from("<QQQQ", data, 32)
        buffer_count, metadata_bytes, created, payload_crc, footer_crc = struct.unpack_from("<IIqQQ", data, 64)
        assert struct.unpack_from("<Q", data, 120)[0] == crc64_nvme(data[:120])
        assert created > 0
        assert data[96:120] == bytes(24)
        assert footer_crc == crc64_nvme(data[table_offset:file_bytes])
        assert flags in (0, 1)
        if flags:
            assert payload_crc == crc64_nvme(data[128:table_offset])
        else:
            assert payload_crc == 0
            assert payload_bytes > 64 * 1024
        entries = [struct.unpack_from("<QQ", data, table_offset + 16 * number) for number in range(buffer_count)]
        assert all(offset % 64 == 0 for offset, _ in [*entries, (table_offset, 0)])
        assert payload_bytes == stream_bytes + sum(length for _, length in entries)
        end = table_offset + 16 * buffer_count
        assert end + metadata_bytes == file_bytes <= len(data)
        return cls(
            data[128 : 128 + stream_bytes],
            [data[offset : offset + length] for offset, length in entries],
            json.loads(data[end:file_bytes]),
        )

    def note(self) -> tuple[bytes, dict[str, Any]]:
        """The stream without its note, and the note, by docs/design/codec.md."""
        assert self.stream[0] == 0x80
        if self.stream[-1] == 0x2E:
            return self.stream, {}
        assert self.stream.endswith(_MARK)
        tail = 4 + len(_MARK)
        length = int.from_bytes(self.stream[-tail : -len(_MARK)], "little")
        return self.stream[: -tail - length], json.loads(self.stream[-tail - length : -tail])

    def pickles(self) -> tuple[bytes, list[bytes], dict[str, Any]]:
        """The stream with its gaps filled, and the buffers that are left for the pickle."""
        stream, note = self.note()
        gaps = note.get("gaps", [])
        for position, number in sorted(gaps, reverse=True):
            stream = stream[:position] + self.buffers[number] + stream[position:]
        taken = {number for _, number in gaps}
        return stream, [each for number, each in enumerate(self.buffers) if number not in taken], note


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    return Store(str(tmp_path / "store"), spill_path=str(tmp_path / "spill"))


def _parsed(store: Store, value: Any, **options: Any) -> Parsed:
    return Parsed.read(Path(store.path) / "objects" / codec.put(store, value, **options).name)


def test_a_small_object_is_a_pickle(store: Store) -> None:
    parsed = _parsed(store, {"a": (1, 2.5)}, owner={"dag_id": "d"})
    assert pickle.loads(parsed.stream) == {"a": (1, 2.5)}
    assert parsed.metadata["type"] == "dict"
    assert parsed.metadata["codec"] == "pickle5"
    assert parsed.metadata["owner"] == {"dag_id": "d"}


def test_arrays_are_buffers(store: Store) -> None:
    import numpy as np

    value = {"a": np.arange(50_000), "b": [np.ones(1000)], "small": np.arange(3)}
    stream, buffers, note = _parsed(store, value).pickles()
    assert note == {}
    assert [len(each) for each in buffers] == [400_000, 8000]
    read = pickle.loads(stream, buffers=buffers)
    assert all(np.array_equal(a, b) for a, b in zip(read["a"], value["a"], strict=True))


def test_long_text_is_a_buffer_and_leaves_a_gap(store: Store) -> None:
    value = ["x" * 300_000, list(range(1000)), b"y" * 400_000]
    stream, buffers, note = _parsed(store, value).pickles()
    assert [number for _, number in note["gaps"]] == [0, 1]
    assert pickle.loads(stream, buffers=buffers) == value


@pytest.mark.parametrize("value", [[[1], "two", {"three": 3}], ([1], [2]), {"a": [1], "b": [2]}])
def test_elements_are_pickles_of_their_own(store: Store, value: Any) -> None:
    stream, _, note = _parsed(store, value, elements=True).pickles()
    elements = note["elements"]
    assert elements["kind"] == type(value).__name__
    count = elements["count"] + (elements["kind"] == "dict")
    table = list(struct.iter_unpack("<QQ", stream[elements["table"] : elements["table"] + 16 * (count + 1)]))
    parts = [pickle.loads(stream[table[index][0] : table[index + 1][0]]) for index in range(count)]
    assert parts == ([*value.values(), list(value)] if isinstance(value, dict) else list(value))


def test_a_plain_document_is_json_and_buffers(store: Store) -> None:
    shared = [1]
    parsed = _parsed(store, {"n": 2**80, "t": (shared, shared), "b": b"x" * 1000, "s": b"y"}, allow_pickle=False)
    assert parsed.stream.startswith(b"AFPLAIN1")
    tag, members = json.loads(parsed.stream[8:])
    assert tag == "dict"
    found = dict(members)
    assert found["n"] == ["int", hex(2**80)]
    assert found["t"] == ["tuple", [["list", [1]], ["ref", 2]]]
    assert found["b"] == ["bytes", 0]
    assert parsed.buffers == [b"x" * 1000]
    assert found["s"] == ["bytes", base64.b64encode(b"y").decode()]
