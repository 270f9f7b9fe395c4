"""
Goal: what goes to S3 goes to the other clouds, too: objects of one part and of many, lists, signed URLs, refusals.

Method: the compiled client against Azurite, which checks signatures (nothing of it is tested without `make azure`),
and with a service account's key against a front that checks Google's tokens and signatures.
"""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airfreight._remote import Bucket
from airfreight._store import Store
from airfreight.errors import ConflictError, CorruptError, DeniedError, InvalidError, ObjectNotFoundError
from bucket_home import AZURITE, AzureServer, GoogleServer
from bucket_home.google import crc32c
from bucket_home.objects import SEVERAL_PARTS, payload_of, put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airfreight.process import Process

    Cloud = AzureServer | GoogleServer

BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleServer]:
    with GoogleServer() as server:
        yield server


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureServer]:
    if not AZURITE.exists():
        pytest.skip("Azurite is not there: `make azure` installs it")
    with AzureServer() as server:
        yield server


@pytest.fixture(params=["azure", "google"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    server: Cloud = request.getfixturevalue(request.param)
    return server


def opened(cloud: Cloud) -> Bucket:
    """A folder in a bucket of the test's own."""
    return Bucket(f"{made(cloud)}/air/freight", cloud.options, environment=False)


def made(cloud: Cloud) -> str:
    return cloud.make_bucket(f"models-{uuid4().hex[:12]}")


def send(url: str, body: bytes, cloud: Cloud) -> None:
    """Puts something to a signed URL, as somebody who has nothing else."""
    needed = {"x-ms-blob-type": "BlockBlob"} if isinstance(cloud, AzureServer) else {}
    fetch(urllib.request.Request(url, body, BINARY | needed, method="PUT"))


def fetch(wanted: Any) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body: bytes = opener.open(wanted).read()
    return body


@pytest.mark.parametrize("nbytes", [100_000, SEVERAL_PARTS])
def test_an_object_goes_there_and_comes_back_to_another_store(cloud: Cloud, memory: Path, nbytes: int) -> None:
    bucket = opened(cloud)
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
    with pytest.raises(ObjectNotFoundError, match=f"there is no checkpoint `{made(cloud).split(':')[0]}://"):
        bucket.get_object(there, name, key, copied)


def test_another_object_under_the_key_stays(cloud: Cloud, memory: Path) -> None:
    bucket, here = opened(cloud), {"path": str(memory / "here")}
    (one, _), (other, _) = put(here, 100_000), put(here, 99_999)
    bucket.put_object(here, one, "k")
    stored = bucket.get("k")
    with pytest.raises(ConflictError, match="there is another checkpoint at"):
        bucket.put_object(here, other, "k")
    assert bucket.get("k") == stored


def test_a_signed_url_needs_no_credentials_and_allows_nothing_else(cloud: Cloud) -> None:
    bucket, key = opened(cloud), "dag/scheduled__2026-01-01T00:00:00+00:00/group.task/x=1~2"
    send(bucket.sign("PUT", key, 60), b"value", cloud)
    assert bucket.get(key) == b"value"
    readable = bucket.sign("GET", key, 60)
    assert fetch(readable) == b"value"
    with pytest.raises(urllib.error.HTTPError) as raised:
        send(readable, b"another", cloud)
    assert raised.value.code == 403
    assert bucket.get(key) == b"value"


def test_what_is_missing_or_refused_is_named(cloud: Cloud, memory: Path) -> None:
    here, url = {"path": str(memory / "here")}, made(cloud)
    name, _ = put(here, 100_000)
    nobodys = f"{url.split(':')[0]}://nobody-made-this"
    with pytest.raises(ObjectNotFoundError, match=f"there is no bucket `{nobodys}`"):
        Bucket(f"{nobodys}/x", cloud.options, environment=False).put_object(here, name, "k")
    wrong = base64.b64encode(b"w" * 64).decode()
    if isinstance(cloud, AzureServer):
        options = cloud.options | {"azure_storage_account_key": wrong}
    else:
        options = {"google_base_url": cloud.endpoint, "google_skip_signature": "true"}
    with pytest.raises(DeniedError) as raised:
        Bucket(url, options, environment=False).put_object(here, name, "k")
    assert url in str(raised.value)
    assert wrong not in f"{raised.value} {raised.value.hint}"


def test_azure_signs_no_name_with_quoted_characters(azure: AzureServer) -> None:
    with pytest.raises(InvalidError, match=r"cannot sign a URL for .*a b`: Azure refuses"):
        opened(azure).sign("GET", "a b", 60)


def test_google_signs_any_name(google: GoogleServer) -> None:
    bucket = opened(google)
    send(bucket.sign("PUT", "a b é", 60), b"plain", google)
    assert bucket.get("a b é") == b"plain"


def test_what_google_keeps_otherwise_than_it_was_sent_is_noticed(google: GoogleServer, memory: Path) -> None:
    bucket, here = opened(google), {"path": str(memory / "here")}
    name, _ = put(here, 100_000)
    google.damages = 1
    with pytest.raises(CorruptError):
        bucket.put_object(here, name, "damaged")
    assert not google.damages
    assert bucket.put_object(here, name, "whole")["nbytes"] > 100_000


def test_the_fronts_checksum_is_the_one_that_everybody_has() -> None:
    assert crc32c(b"123456789") == 0xE306_9283


def test_a_checkpoint_lies_there_by_the_environments_credentials(
    cloud: Cloud, configure: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airfreight.checkpoint.place import open_place

    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    url = made(cloud)
    place = open_place(configure(checkpoint=url), url)
    place.bucket.put("flights/newest", b"a row")
    assert place.bucket.get("flights/newest") == b"a row"
