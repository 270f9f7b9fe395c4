"""
Goal: what goes to S3 goes to Azure, too: objects of one part and of many, lists, signed URLs, clear refusals.

Method: the compiled client against Azurite, which checks signatures; without it (`make azure`) nothing is tested.
"""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from airfreight._remote import Bucket
from airfreight._store import Store
from airfreight.errors import ConflictError, DeniedError, InvalidError, ObjectNotFoundError
from bucket_home import AZURITE, AzureServer
from bucket_home.objects import SEVERAL_PARTS, payload_of, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airfreight.process import Process

pytestmark = pytest.mark.skipif(not AZURITE.exists(), reason="Azurite is not there: `make azure` installs it")


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureServer]:
    with AzureServer() as server:
        yield server


@pytest.fixture
def url(azure: AzureServer) -> str:
    """A container of the test's own."""
    return azure.make_bucket(f"models-{uuid4().hex[:12]}")


@pytest.fixture
def bucket(azure: AzureServer, url: str) -> Bucket:
    return Bucket(f"{url}/air/freight", azure.options, environment=False)


@pytest.mark.parametrize("nbytes", [100_000, SEVERAL_PARTS])
def test_an_object_goes_to_azure_and_comes_back_to_another_store(bucket: Bucket, memory: Path, nbytes: int) -> None:
    here, there = {"path": str(memory / "here")}, {"path": str(memory / "there")}
    name, payload = put(here, nbytes)
    key = f"dag/run%3A1 +é/{name}"
    copied = bucket.put_object(here, name, key)
    assert bucket.size(key) == copied["nbytes"]
    assert [entry["key"] for entry in bucket.list("dag")] == [key]
    assert bucket.put_object(here, name, key) == copied, "it is there already"

    assert bucket.get_object(there, name, key, copied) == copied
    assert payload_of(there, name) == payload

    bucket.delete(key)
    assert bucket.list() == []
    Store(**there).delete(name)
    with pytest.raises(ObjectNotFoundError, match="there is no checkpoint `az://"):
        bucket.get_object(there, name, key, copied)


def test_another_object_under_the_key_stays(bucket: Bucket, memory: Path) -> None:
    here = {"path": str(memory / "here")}
    (one, _), (other, _) = put(here, 100_000), put(here, 99_999)
    bucket.put_object(here, one, "k")
    stored = bucket.get("k")
    with pytest.raises(ConflictError, match="there is another checkpoint at"):
        bucket.put_object(here, other, "k")
    assert bucket.get("k") == stored


def test_a_signed_url_needs_no_credentials_and_allows_nothing_else(bucket: Bucket) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
    key = "dag/scheduled__2026-01-01T00:00:00+00:00/group.task/x=1~2"
    opener.open(urllib.request.Request(bucket.sign("PUT", key, 60), b"value", headers, method="PUT"))
    assert bucket.get(key) == b"value"
    readable = bucket.sign("GET", key, 60)
    assert opener.open(readable).read() == b"value"
    with pytest.raises(urllib.error.HTTPError) as raised:
        opener.open(urllib.request.Request(readable, b"another", headers, method="PUT"))
    assert raised.value.code == 403
    assert bucket.get(key) == b"value"
    with pytest.raises(InvalidError, match=r"cannot sign a URL for .*a b`: Azure refuses"):
        bucket.sign("GET", "a b", 60)


def test_what_is_missing_or_refused_is_named(azure: AzureServer, url: str, memory: Path) -> None:
    here = {"path": str(memory / "here")}
    name, _ = put(here, 100_000)
    with pytest.raises(ObjectNotFoundError, match="there is no bucket `az://nobody-made-this`"):
        Bucket("az://nobody-made-this/x", azure.options, environment=False).put_object(here, name, "k")
    wrong = base64.b64encode(b"w" * 64).decode()
    refused = Bucket(url, azure.options | {"azure_storage_account_key": wrong}, environment=False)
    with pytest.raises(DeniedError) as raised:
        refused.put_object(here, name, "k")
    assert url in str(raised.value)
    assert wrong not in f"{raised.value} {raised.value.hint}"


def test_a_checkpoint_lies_on_azure_by_the_environments_credentials(
    azure: AzureServer, url: str, configure: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airfreight.checkpoint.place import open_place

    for name, value in azure.environment.items():
        monkeypatch.setenv(name, value)
    place = open_place(configure(checkpoint=url), url)
    place.bucket.put("flights/newest", b"a row")
    assert place.bucket.get("flights/newest") == b"a row"
