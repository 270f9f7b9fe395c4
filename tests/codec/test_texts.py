"""
Goal: columns of strings are packed exactly, and what was packed by earlier releases can be read. Method: the packer by
itself with damaged input, and streams made by hand as those releases made them.
"""

from __future__ import annotations

import pickle
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from airfreight import codec
from airfreight._store import Store, fill_texts, pack_texts
from airfreight.codec.reducers import numpy as reducers
from airfreight.codec.reducers import strings
from airfreight.errors import CorruptError, InvalidError
from codec.equality import assert_same

ATOMS = frozenset({type(None), float})


def objects(*values: Any) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def restored(length: int, *packed: Any) -> list[Any]:
    array = np.empty(length, object)
    fill_texts(array, *packed)
    return array.tolist()


def test_lengths_and_text_are_what_the_document_says() -> None:
    packed = pack_texts(objects("a", "é", None, "", "☃ and", None), ATOMS)
    assert packed is not None
    lengths, text, others = packed
    assert np.frombuffer(lengths, "<u4").tolist() == [1, 2, 2**32 - 255, 0, 7, 2**32 - 255]
    assert bytes(text) == "aé☃ and".encode()
    assert others == [None]
    assert restored(6, *packed) == ["a", "é", None, "", "☃ and", None]


def test_the_others_stay_as_many_as_they_were() -> None:
    """What a column marks as missing is one object, whose identity some look at."""
    nan, other = float("nan"), float("nan")
    packed = pack_texts(objects("a", nan, nan, other, "b"), ATOMS)
    assert packed is not None
    _, first, second, third, _ = restored(5, *packed)
    assert first is second is nan
    assert third is other


@pytest.mark.parametrize("value", ["half \ud83d", np.str_("of a subclass"), 1, b"bytes", [1], str])
def test_what_is_no_plain_string_is_left_to_others(value: Any) -> None:
    assert pack_texts(objects("a", value), ATOMS) is None


def test_at_most_255_values_may_be_among_the_strings() -> None:
    few = objects(*(i / 7 for i in range(255)), "text")
    packed = pack_texts(few, ATOMS)
    assert packed is not None
    assert restored(256, *packed) == few.tolist()
    assert pack_texts(objects(*(i / 7 for i in range(256)), "text"), ATOMS) is None


def test_packing_leaves_no_second_copy_with_the_strings() -> None:
    """Python keeps the UTF-8 form of a string that was asked for it; a column would take twice its memory from then."""
    array = objects(*(f"{i} Žluťoučký kůň" for i in range(20_000)))
    before = sum(map(sys.getsizeof, array))
    assert pack_texts(array, ATOMS) is not None
    assert sum(map(sys.getsizeof, array)) - before < before // 20


def test_references_are_counted_right() -> None:
    marker = object()
    array = objects(*[marker] * 3)
    before = sys.getrefcount(marker)
    packed = pack_texts(objects("a", "b", "c"), ATOMS)
    assert packed is not None
    fill_texts(array, *packed)
    assert sys.getrefcount(marker) == before - 3
    value = 1.5e300
    packed = pack_texts(objects("a", *[value] * 1000), ATOMS)
    assert packed is not None
    before = sys.getrefcount(value)
    restored(1001, *packed)
    assert sys.getrefcount(value) == before


def test_packing_again_and_again_leaks_nothing() -> None:
    array = objects(*(f"é{i}" for i in range(2000)), *[None] * 100)

    def turn() -> None:
        packed = pack_texts(array, ATOMS)
        assert packed is not None
        restored(2100, *packed)

    turn()
    tracemalloc.start()
    try:
        turn()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            turn()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.zeros(3), id="numbers"),
        pytest.param(np.array(["a", "b"]), id="fixed width"),
        pytest.param(objects("a", "b", "c", "d")[::2], id="strided"),
        pytest.param(b"abcdefgh", id="bytes"),
        pytest.param(memoryview(bytes(16)).cast("P"), id="pointers"),
    ],
)
def test_only_contiguous_arrays_of_objects_are_touched(array: Any) -> None:
    with pytest.raises(BufferError, match="not a contiguous array of objects"):
        pack_texts(array, ATOMS)
    with pytest.raises(BufferError, match="not a contiguous array of objects"):
        fill_texts(array, b"", b"", [])


def test_an_array_that_can_t_be_written_is_not_filled() -> None:
    array = objects(None)
    array.flags.writeable = False
    with pytest.raises(BufferError, match="can't be written"):
        fill_texts(array, (1).to_bytes(4, "little"), b"a", [])


@pytest.mark.parametrize(
    ("lengths", "text", "others"),
    [
        pytest.param([1], b"ab", [], id="too few lengths"),
        pytest.param([1, 1, 1], b"abc", [], id="too many lengths"),
        pytest.param([1, 2], b"ab", [], id="too little text"),
        pytest.param([1, 1], b"abc", [], id="too much text"),
        pytest.param([1, 2**32 - 256], b"a", [], id="a length beyond everything"),
        pytest.param([1, 1], "é".encode(), [], id="half a character"),
        pytest.param([1, 1], b"a\xff", [], id="no text"),
        pytest.param([1, 2**32 - 255], b"a", [], id="none of the others"),
    ],
)
def test_damage_is_an_error(lengths: list[int], text: bytes, others: list[Any]) -> None:
    words = b"".join(length.to_bytes(4, "little") for length in lengths)
    with pytest.raises(CorruptError, match="packed strings don't fit their lengths"):
        restored(2, words, text, others)
    with pytest.raises(CorruptError):
        restored(2, words + b"\0", text, others)


def test_a_block_of_columns_that_differ_comes_back(store: Store) -> None:
    block = np.empty((3, 3000), object)
    block[0] = [f"text {i}" for i in range(3000)]
    block[1] = [[i] for i in range(3000)]
    block[2] = ["few", None, "often"] * 1000
    for value in (block, np.asfortranarray(block)):
        found = codec.get(store, codec.put(store, value).name)
        assert_same(found, value)
        assert found.flags.c_contiguous == value.flags.c_contiguous


def test_what_comes_back_is_an_ordinary_array(store: Store) -> None:
    found = codec.get(store, codec.put(store, objects(*(f"text {i}" for i in range(3000)))).name)
    found[0], found[1] = "other", ["more"]
    assert found[:3].tolist() == ["other", ["more"], "text 2"]
    assert found.flags.owndata


class Rebuilt:
    """Pickles as the call it is given."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def loaded(*reduced: Any) -> Any:
    return codec.loads(pickle.dumps(Rebuilt(*reduced), 5))


def test_texts_in_arrow_s_form_are_still_read() -> None:
    pa = pytest.importorskip("pyarrow")
    runs = [[f"a{i}" for i in range(2000)], [f"b{i}" for i in range(1999)] + [None]]
    block = objects(*runs[0], *runs[1]).reshape(2, 2000)
    arrow = [pa.array(run, pa.string()) for run in runs]
    assert_same(loaded(reducers._rebuild_texts, (arrow, (2, 2000), False)), block)
    assert_same(loaded(reducers._rebuild_texts, (arrow, (2000, 2), True)), np.asfortranarray(block.T))


def test_runs_in_pickled_parts_are_still_read() -> None:
    texts, others = [f"a{i}" for i in range(20_000)], [[i] for i in range(20_000)]
    packed = strings.pack(texts)
    assert packed is not None
    block = objects(*texts, *others).reshape(2, 20_000)
    for fortran, expected in ((False, block), (True, np.asfortranarray(block.T))):
        state = (expected.shape, fortran, [(packed[0].raw().tobytes(), packed[1]), others])
        assert_same(loaded(reducers._empty_objects, (), state, None, None, reducers._fill_objects), expected)


def test_a_form_of_a_later_release_is_named(store: Store) -> None:
    stream = pickle.dumps(Rebuilt(reducers._rebuild_runs, ((1,), False, [(b"", b"", [])])), 5)
    later = stream.replace(b"_rebuild_runs", b"_rebuild_ruin")
    with pytest.raises(InvalidError, match="another version of a library"):
        codec.loads(later)
