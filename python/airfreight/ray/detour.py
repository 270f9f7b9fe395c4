"""
The way of values that are too large for the dashboard where nothing else of a cluster can be reached: a bucket.

The cluster reads or writes one key, by a signed URL: it gets no credentials, and nothing of it stays in the bucket.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airfreight import journal
from airfreight.errors import AirfreightError, OutOfReachError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airfreight._remote import RayRunner
    from airfreight.checkpoint.place import Place
    from airfreight.process import Process
    from airfreight.references import Row

log = logging.getLogger("airfreight.xcom")

#: A URL outlives the slowest transfer, and not the day.
_URL_SECONDS = 6 * 3600.0

#: Azure wants to be told what it is that is put there.
_HEADERS = {"x-ms-blob-type": "BlockBlob"}
_AZURE = ("az://", "azure://", "abfs://", "abfss://", "adl://")


def fetch(process: Process, runner: RayRunner, value: dict[str, Any], row: Row, error: OutOfReachError) -> str:
    """
    Bring a value to this host's store that can't come directly.

    :param error: why it can't, which is raised where there is no bucket either.
    :returns: the bucket, for people.
    """
    place = _bucket(process, error)
    url = place.bucket.url
    with _transit(process, place, row) as key:
        urls = {
            "put": place.bucket.sign("PUT", key, _URL_SECONDS),
            "get": place.bucket.sign("GET", key, _URL_SECONDS),
            "headers": _HEADERS if url.startswith(_AZURE) else {},
            "way": place.bucket.way,
        }
        runner.fetch(
            value, process.store_options, route="bucket", url=urls, progress=journal.progress("fetched", f"from {url}")
        )
    return url


def send(
    process: Process, runner: RayRunner, row: Row, owner: str, info: dict[str, Any], error: OutOfReachError
) -> dict[str, Any]:
    """
    Give a value of the store to a cluster that can't take it directly.

    :param error: why it can't, which is raised where there is no bucket either.
    :returns: what it is called there.
    """
    place = _bucket(process, error)
    url, name = place.bucket.url, str(row["id"])
    with _transit(process, place, row) as key:
        place.bucket.put_object(process.store_options, name, key, journal.progress("uploaded", f"to {url}"))
        urls = {"get": place.bucket.sign("GET", key, _URL_SECONDS)}
        there = runner.send(name, process.store_options, owner, info, route="bucket", url=urls)
    log.info("a value went to Ray through %s", url)
    return there


def _bucket(process: Process, error: OutOfReachError) -> Place:
    from airfreight.checkpoint.place import open_place

    where = process.settings.checkpoint
    # A directory has no URLs for others.
    if where is None or where.startswith("file:"):
        raise error
    return open_place(process, where)


@contextmanager
def _transit(process: Process, place: Place, row: Row) -> Iterator[str]:
    """A key beside a value's checkpoints, for as long as it takes."""
    import secrets

    from airfreight.checkpoint.place import folder
    from airfreight.origin import Coordinates

    owner = row.get("owner") or {}
    where = Coordinates(*(owner.get(part) for part in Coordinates._fields))
    # Azure takes no signed URL with quoted characters; nobody reads a name from this key.
    place_in_bucket = folder(process.deployment, where).replace("%", "~")
    key = f"{place_in_bucket}/transit-{secrets.token_hex(12)}"
    try:
        yield key
    finally:
        try:
            place.bucket.delete(key)
        except AirfreightError as error:
            log.warning("left %s/%s until `airfreight checkpoint rm`: %s", place.bucket.url, key, error.message)
