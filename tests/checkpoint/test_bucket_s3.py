"""The compiled client against a real S3 server, and against one that refuses, throttles, damages and cuts."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._remote import Bucket
from airfreight._store import Store
from airfreight.errors import (
    ConflictError,
    CorruptError,
    DeniedError,
    InvalidError,
    ObjectNotFoundError,
    UnavailableError,
)
from bucket_home.objects import SEVERAL_PARTS, payload_of, put

if TYPE_CHECKING:
    from pathlib import Path

    from bucket_home import FaultProxy, S3Server


@pytest.fixture
def here(memory: Path) -> dict[str, Any]:
    return {"path": str(memory / "here"), "spill_path": str(memory / "spill")}


@pytest.fixture
def there(memory: Path) -> dict[str, Any]:
    return {"path": str(memory / "there"), "spill_path": str(memory / "spill")}


@pytest.fixture
def bucket(s3: S3Server, bucket_url: str) -> Bucket:
    return Bucket(f"{bucket_url}/air/freight", s3.options, environment=False)


def behind(proxy: FaultProxy, s3: S3Server, url: str, patience: float = 60.0) -> Bucket:
    return Bucket(url, s3.options | {"aws_endpoint": proxy.endpoint}, environment=False, patience=patience)


@pytest.mark.parametrize("nbytes", [100_000, SEVERAL_PARTS])
def test_an_object_goes_to_s3_and_comes_back_to_another_store(
    bucket: Bucket, here: dict[str, Any], there: dict[str, Any], nbytes: int
) -> None:
    name, payload = put(here, nbytes)
    copied = bucket.put_object(here, name, f"dag/run%3A1/{name}")
    assert bucket.size(f"dag/run%3A1/{name}") == copied["nbytes"]
    assert [entry["key"] for entry in bucket.list("dag")] == [f"dag/run%3A1/{name}"]

    assert bucket.get_object(there, name, f"dag/run%3A1/{name}", copied) == copied
    assert payload_of(there, name) == payload
    assert bucket.put_object(here, name, f"dag/run%3A1/{name}") == copied, "it is there already"

    bucket.delete(f"dag/run%3A1/{name}")
    assert bucket.list() == []
    Store(**there).delete(name)
    with pytest.raises(ObjectNotFoundError, match=f"there is no checkpoint `s3://.*/air/freight/dag/run%3A1/{name}`"):
        bucket.get_object(there, name, f"dag/run%3A1/{name}", copied)


def test_a_link_arrives_under_its_own_name(bucket: Bucket, here: dict[str, Any], there: dict[str, Any]) -> None:
    name, payload = put(here, 100_000)
    link = Store(**here).link(name)
    copied = bucket.put_object(here, name, "x")
    bucket.get_object(there, link, "x", copied)
    assert Store(**there).names() == [link]
    assert payload_of(there, link) == payload


def test_a_signed_url_needs_no_credentials(bucket: Bucket) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    put_url = bucket.sign("PUT", "a b", 60)
    headers = {"Content-Type": "application/octet-stream"}
    opener.open(urllib.request.Request(put_url, b"value", headers, method="PUT"))
    assert bucket.get("a b") == b"value"
    assert opener.open(bucket.sign("GET", "a b", 60)).read() == b"value"
    with pytest.raises(InvalidError, match="none of GET, PUT, HEAD and DELETE"):
        bucket.sign("PATCH", "a", 60)


def test_what_is_missing_or_refused_is_named(s3: S3Server, proxy: FaultProxy, bucket_url: str, here: Any) -> None:
    name, _ = put(here, 100_000)
    with pytest.raises(ObjectNotFoundError, match="there is no bucket `s3://nobody-made-this`"):
        Bucket("s3://nobody-made-this/x", s3.options, environment=False).put_object(here, name, "k")
    proxy.on("refuse")
    refused = behind(proxy, s3, bucket_url)
    for action, call in (
        ("write", lambda: refused.put_object(here, name, "k")),
        ("read", lambda: refused.get("k")),
        ("list", refused.list),
        ("delete", lambda: refused.delete("k")),
    ):
        with pytest.raises(DeniedError, match=f"refused to {action} `{bucket_url}.*: AccessDenied") as raised:
            call()
        assert "test-secret" not in str(raised.value)


@pytest.mark.parametrize("nbytes", [100_000, SEVERAL_PARTS])
def test_throttling_is_waited_out(
    s3: S3Server, proxy: FaultProxy, bucket_url: str, here: Any, there: Any, nbytes: int
) -> None:
    faults = [proxy.on("throttle", method, times=2) for method in ("PUT", "GET", "HEAD", "POST")]
    name, payload = put(here, nbytes)
    bucket = behind(proxy, s3, bucket_url)
    bucket.get_object(there, name, "k", bucket.put_object(here, name, "k"))
    assert payload_of(there, name) == payload
    assert [fault.hits for fault in faults][:3] == [2, 2, 2]


def test_endless_throttling_ends_with_our_patience(s3: S3Server, proxy: FaultProxy, bucket_url: str, here: Any) -> None:
    proxy.on("throttle")
    name, _ = put(here, 100_000)
    bucket = behind(proxy, s3, bucket_url, patience=0.3)
    with pytest.raises(UnavailableError, match=f"throttled every attempt to write `{bucket_url}/k`: SlowDown"):
        bucket.put_object(here, name, "k")


@pytest.mark.parametrize("expected", [True, False])
def test_damaged_bytes_are_found_and_not_kept(
    s3: S3Server, proxy: FaultProxy, bucket_url: str, here: Any, there: Any, expected: bool
) -> None:
    name, _ = put(here, SEVERAL_PARTS)
    bucket = behind(proxy, s3, bucket_url)
    copied = bucket.put_object(here, name, "k")
    proxy.on("damage", "GET", times=1)
    with pytest.raises(CorruptError, match=f"the checkpoint `{bucket_url}/k` is damaged"):
        bucket.get_object(there, name, "k", copied if expected else None)
    assert Store(**there).names() == []
    bucket.get_object(there, name, "k", copied)
    assert Store(**there).names() == [name]


def test_another_object_under_the_key_is_no_copy(bucket: Bucket, here: Any) -> None:
    name, _ = put(here, 100_000)
    copied = bucket.put_object(here, name, "k")
    original = bucket.get("k") or b""
    assert len(original) == copied["nbytes"]
    bucket.put("k", original[:500] + bytes([original[500] ^ 1]) + original[501:])
    with pytest.raises(ConflictError, match="there is another checkpoint at"):
        bucket.put_object(here, name, "k")


def test_cuts_in_both_directions_are_mended(
    s3: S3Server, proxy: FaultProxy, bucket_url: str, here: Any, there: Any
) -> None:
    faults = [proxy.on("cut", "PUT", "partNumber", times=2), proxy.on("cut", "GET", times=3)]
    name, payload = put(here, SEVERAL_PARTS)
    bucket = behind(proxy, s3, bucket_url)
    bucket.get_object(there, name, "k", bucket.put_object(here, name, "k"))
    assert payload_of(there, name) == payload
    assert [fault.hits for fault in faults] == [2, 3]


def test_nothing_is_left_of_an_upload_that_fails(s3: S3Server, proxy: FaultProxy, bucket_url: str, here: Any) -> None:
    name, _ = put(here, SEVERAL_PARTS)
    proxy.on("refuse", "PUT", "partNumber=3")
    with pytest.raises(DeniedError):
        behind(proxy, s3, bucket_url).put_object(here, name, "k")
    path = bucket_url.removeprefix("s3://")
    assert b"<Upload>" not in s3.request("GET", f"/{path}?uploads")
    assert b"<Key>" not in s3.request("GET", f"/{path}")


def test_a_server_that_is_not_there_is_an_error_in_time(bucket_url: str, s3: S3Server, here: Any) -> None:
    name, _ = put(here, 100)
    gone = Bucket(bucket_url, s3.options | {"aws_endpoint": "http://127.0.0.1:9"}, environment=False, patience=0.3)
    with pytest.raises(UnavailableError, match=f"the bucket failed to write `{bucket_url}/k`"):
        gone.put_object(here, name, "k")


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("ftp://host/x", {}, "`ftp` is none of s3, gs, az, abfs and file"),
        ("s3://me:hunter2@b/x", {}, "credentials belong into the connection"),
        ("s3://b/x", {"aws_shoe_size": "9"}, "s3 has no option `aws_shoe_size`"),
        ("s3://b/x", {"aws_access_key_id": "hunter2"}, "cannot use the bucket `s3://b/x`"),
    ],
)
def test_what_makes_no_sense_is_told_without_secrets(url: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidError, match=message) as raised:
        Bucket(url, options, environment=False).list()
    assert "hunter2" not in str(raised.value)
