"""Goal: with allow_pickle = false a value comes back exactly or is refused by name, and no read runs code."""

from __future__ import annotations

import pytest

from airfreight import codec
from airfreight._store import Store
from airfreight.errors import CorruptError, DeniedError
from codec.cases import EXACT
from codec.equality import assert_same


@pytest.mark.parametrize("name", EXACT)
def test_a_value_is_exact_or_refused(store: Store, name: str) -> None:
    value = EXACT[name]()
    before = store.names()
    try:
        stored = codec.put(store, value, allow_pickle=False)
    except codec.UnstorableError as error:
        assert "allow_pickle" in error.message  # noqa: PT017
        assert store.names() == before
        return
    assert stored.codec == "plain"
    assert_same(codec.get(store, stored.name, allow_pickle=False), value, blocks=False)
    assert_same(codec.get(store, stored.name), value, blocks=False)
    store.delete(stored.name)


class Attack:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[type[BaseException], tuple[str]]:
        return SystemExit, ("this must not run",)


def test_a_pickle_is_refused_before_it_is_read(store: Store) -> None:
    for name in (
        codec.put(store, Attack()).name,
        codec.put(store, [b"x" * 300_000, Attack()]).name,
        codec.put(store, [1, Attack()], elements=True).name,
    ):
        with pytest.raises(DeniedError, match="allow_pickle"):
            codec.get(store, name, allow_pickle=False)
        with pytest.raises(DeniedError, match="allow_pickle"):
            codec.get_element(store, name, 1, allow_pickle=False)


def test_an_element_of_a_plain_list_is_read(store: Store) -> None:
    name = codec.put(store, [1, b"two", {"three": 3}], allow_pickle=False, elements=True).name
    assert codec.get_element(store, name, 1, allow_pickle=False) == b"two"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b'["unknown", 1]',
        b'["../frames", 1]',
        b'["ref", 5]',
        b'["tuple", [["ref", 0]]]',
        b'["ndarray", "|O", "AAAA", [1], null, true]',
        b'["ndarray", [["a", "|O"]], "AAAAAAAAAAA=", [1], null, true]',
        b'["ndarray", "<f8", 99, [1], null, true]',
        b'["scalar", "|O", "AAAA"]',
        b'["frame", {"each": [["nullable", "object", 1, 2]]}, null, null, null, true]',
        b'["index", "plain", ["list", []], ["pickle", 1], null]',
        b'["chunked", "AAAA"]',
    ],
)
def test_a_forged_document_is_corrupt(store: Store, document: bytes) -> None:
    with store.create() as writer:
        writer.write(b"AFPLAIN1" + document)
        name = writer.seal("{}")
    with pytest.raises(CorruptError):
        codec.get(store, name, allow_pickle=False)


def test_a_stream_of_another_kind_is_corrupt(store: Store) -> None:
    for stream in (b"", b"AF", b"NOTAPICKLE"):
        with store.create() as writer:
            writer.write(stream)
            name = writer.seal("{}")
        with pytest.raises(CorruptError):
            codec.get(store, name)


def test_a_container_that_holds_itself_in_a_tuple_is_refused(store: Store) -> None:
    inner: list[object] = []
    value = (inner,)
    inner.append(value)
    with pytest.raises(codec.UnstorableError, match="holds itself"):
        codec.put(store, value, allow_pickle=False)


def test_the_path_of_what_needs_pickle_is_named(store: Store) -> None:
    with pytest.raises(codec.UnstorableError) as caught:
        codec.put(store, {"rows": [1, {"when": Attack()}]}, allow_pickle=False)
    assert caught.value.path == '["rows"][1]["when"]'
