"""
Goal: the object format in Python is that of the store.

Method: a file that the store has sealed is read, and a file that was written is read by the same rules; each byte of
header and footer is changed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airfreight import codec
from airfreight._store import Store
from airfreight.ray import report
from airfreight.ray.cluster import objectfile
from airfreight.ray.cluster.packed import Packed
from airfreight.ray.cluster.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path


def packed(value: Any) -> Packed:
    return Packed.of(report.encode(value, allow_pickle=True), {"type": "t", "preview": {}, "created": 5})


def written(value: Any) -> bytearray:
    return bytearray(b"".join(objectfile.pieces(packed(value), "a\0b\0c")))


def test_the_checksum_is_the_one_that_everybody_has() -> None:
    assert objectfile.crc64(b"123456789") == 0xAE8B14860A799888


def test_a_file_is_read_as_it_was_written() -> None:
    import numpy as np

    value = {"a": np.arange(1000), "b": b"x" * 300_000, "c": [1, "two"], "d": np.zeros(0)}
    data = written(value)
    assert len(data) == objectfile.file_bytes(packed(value))
    found = objectfile.parse(memoryview(data)).value()
    assert found["c"] == value["c"]
    assert found["b"] == value["b"]
    assert (found["a"] == value["a"]).all()


def test_what_the_store_has_sealed_is_read(tmp_path: Path) -> None:
    import numpy as np

    store = Store(str(tmp_path / "store"))
    value = [np.arange(100_000), "text" * 100_000, {"x": 1}]
    for elements in (False, True):
        stored = codec.objects.put(store, value, elements=elements)
        data = (tmp_path / "store" / "objects" / stored.name).read_bytes()
        found = objectfile.parse(memoryview(data))
        assert found.nbytes == stored.nbytes
        back = found.value()
        assert (back[0] == value[0]).all()
        assert back[1:] == value[1:]


def test_any_changed_byte_of_header_and_footer_is_noticed() -> None:
    import numpy as np

    data = written(np.arange(100))
    table = int.from_bytes(data[56:64], "little")
    for place in [*range(objectfile.HEADER_BYTES), *range(table, len(data))]:
        broken = bytearray(data)
        broken[place] ^= 0x10
        with pytest.raises(Problem):
            objectfile.parse(memoryview(broken))
    for end in (0, 1, 127, 128, table, len(data) - 1):
        with pytest.raises(Problem):
            objectfile.parse(memoryview(data)[:end])
