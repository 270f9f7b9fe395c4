"""
Goal: what goes to S3 goes to Google Cloud Storage, too: objects of one part and of many, lists, signed URLs, refusals.

Method: the compiled client with a service account's key against a front that checks Google's tokens and signatures.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from airfreight._remote import Bucket
from airfreight._store import Store
from airfreight.errors import ConflictError, CorruptError, DeniedError, ObjectNotFoundError
from bucket_home import GoogleServer
from bucket_home.google import crc32c
from bucket_home.objects import SEVERAL_PARTS, payload_of, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def google() -> Iterator[GoogleServer]:
    with GoogleServer() as server:
        yield server


@pytest.fixture
def url(google: GoogleServer) -> str:
    """A bucket of the test's own."""
    return google.make_bucket(f"models-{uuid4().hex[:12]}")


@pytest.fixture
def bucket(google: GoogleServer, url: str) -> Bucket:
    return Bucket(f"{url}/air/freight", google.options, environment=False)


def test_the_fronts_checksum_is_the_one_that_everybody_has() -> None:
    assert crc32c(b"123456789") == 0xE306_9283


@pytest.mark.parametrize("nbytes", [100_000, SEVERAL_PARTS])
def test_an_object_goes_to_google_and_comes_back_to_another_store(bucket: Bucket, memory: Path, nbytes: int) -> None:
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
    with pytest.raises(ObjectNotFoundError, match="there is no checkpoint `gs://"):
        bucket.get_object(there, name, key, copied)


def test_another_object_under_the_key_stays(bucket: Bucket, memory: Path) -> None:
    here = {"path": str(memory / "here")}
    (one, _), (other, _) = put(here, 100_000), put(here, 99_999)
    bucket.put_object(here, one, "k")
    stored = bucket.get("k")
    with pytest.raises(ConflictError, match="there is another checkpoint at"):
        bucket.put_object(here, other, "k")
    assert bucket.get("k") == stored


def test_what_google_keeps_otherwise_than_it_was_sent_is_noticed(
    google: GoogleServer, bucket: Bucket, memory: Path
) -> None:
    here = {"path": str(memory / "here")}
    name, _ = put(here, 100_000)
    google.damages = 1
    with pytest.raises(CorruptError):
        bucket.put_object(here, name, "damaged")
    assert not google.damages
    assert bucket.put_object(here, name, "whole")["nbytes"] > 100_000


def test_a_signed_url_needs_no_credentials_and_allows_nothing_else(bucket: Bucket) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/octet-stream"}
    key = "dag/scheduled__2026-01-01T00:00:00+00:00/group.task/x=1~2"
    opener.open(urllib.request.Request(bucket.sign("PUT", key, 60), b"value", headers, method="PUT"))
    assert bucket.get(key) == b"value"
    readable = bucket.sign("GET", key, 60)
    assert opener.open(readable).read() == b"value"
    with pytest.raises(urllib.error.HTTPError) as raised:
        opener.open(urllib.request.Request(readable, b"another", headers, method="PUT"))
    assert raised.value.code == 403
    assert bucket.get(key) == b"value"
    opener.open(urllib.request.Request(bucket.sign("PUT", "a b é", 60), b"plain", headers, method="PUT"))
    assert bucket.get("a b é") == b"plain"


def test_what_is_missing_or_refused_is_named(google: GoogleServer, url: str, memory: Path) -> None:
    here = {"path": str(memory / "here")}
    name, _ = put(here, 100_000)
    with pytest.raises(ObjectNotFoundError, match="there is no bucket `gs://nobody-made-this`"):
        Bucket("gs://nobody-made-this/x", google.options, environment=False).put_object(here, name, "k")
    refused = Bucket(url, {"google_base_url": google.endpoint, "google_skip_signature": "true"}, environment=False)
    with pytest.raises(DeniedError) as raised:
        refused.put_object(here, name, "k")
    assert url in str(raised.value)
