"""
Where checkpoints lie: buckets as people name them, and the keys in them.

A key is ``<deployment>/<dag>/<run>/<task>[/<map index>]/<XCom key>/<object>``, each part quoted so that no name can
lead elsewhere. Beside the objects lies ``newest``, which says what the task returned last.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from airfreight.checkpoint import credentials
from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from airfreight._remote import Bucket
    from airfreight.origin import Coordinates
    from airfreight.process import Process

#: What says which object a task returned last.
NEWEST = "newest"

#: A part of a key is a file's name where the bucket is a directory, and S3's keys end after 1024 bytes.
_PART_BYTES_MAX = 120
_PART_BYTES_KEPT = 90
_SAFE = "-_.~:+="


class Place(NamedTuple):
    """
    A bucket that is ready to be used.

    :param conn_id: the Airflow connection whose credentials open it; ``None``: those of the environment.
    """

    bucket: Bucket
    conn_id: str | None


def open_place(process: Process, where: str) -> Place:
    """
    The bucket that a URL, a connection id, or ``connection id@URL`` stands for.

    :raises InvalidError: it stands for none, or the connection says something that isn't supported.
    """
    known: Place | None = process.buckets.get(where)
    if known is None:
        conn_id, url = split(where)
        known = process.buckets[where] = Place(_bucket(access(conn_id, url)), conn_id)
    return known


def open_again(process: Process, copy: dict[str, Any]) -> Place:
    """The bucket in which a row says that its checkpoint is."""
    conn_id = copy["conn"]
    return open_place(process, f"{conn_id}@{copy['url']}" if conn_id else copy["url"])


def split(where: str) -> tuple[str | None, str | None]:
    """Connection id and URL of ``connection id@URL``, of which one may be missing."""
    head, scheme, _ = where.partition("://")
    if not scheme:
        return where, None
    conn_id, at, _ = head.rpartition("@")
    return (conn_id, where[len(conn_id) + 1 :]) if at else (None, where)


class Access(NamedTuple):
    """A bucket and how to get in: the arguments of :class:`airfreight._remote.Bucket`."""

    url: str
    options: dict[str, str]
    environment: bool
    verify: bool | str
    proxy: str | None

    def __repr__(self) -> str:
        return f"Access({self.url!r})"


def access(conn_id: str | None, url: str | None) -> Access:
    """
    The bucket of a URL with the credentials of a connection, either of which may be missing.

    :raises InvalidError: they don't fit each other, or don't name a bucket.
    """
    if conn_id is None:
        return Access(url or "", {}, environment=True, verify=True, proxy=None)
    found = credentials.of_connection(conn_id)
    url = url or found.url
    if url is None:
        raise InvalidError(
            f"connection `{conn_id}` names no bucket for checkpoints",
            f"write {conn_id}@{found.scheme}://bucket/prefix, or put the bucket's name into the connection's extra "
            f"`bucket_name`",
        )
    if credentials.scheme_of(url) != found.scheme:
        raise InvalidError(
            f"connection `{conn_id}` is of the type {found.conn_type}, which is not for `{url.partition('://')[0]}://`"
        )
    return Access(url, found.options, found.environment, found.verify, found.proxy)


def _bucket(found: Access) -> Bucket:
    from airfreight._remote import Bucket

    return Bucket(found.url, found.options, environment=found.environment, verify=found.verify, proxy=found.proxy)


def folder(deployment: str, where: Coordinates) -> str:
    """What all keys of an XCom row begin with."""
    parts = [deployment, where.dag_id, where.run_id, where.task_id]
    if where.map_index is not None and where.map_index >= 0:
        parts.append(str(where.map_index))
    return "/".join(quoted(part or "-") for part in (*parts, where.key))


def quoted(part: str) -> str:
    """A name as one part of a key: never empty, no `.` or `..`, no separator; cut with a digest where it is long."""
    text = quote(part, safe=_SAFE)
    if text.strip(".") == "":
        text = text.replace(".", "%2E") or "%"
    if len(text) <= _PART_BYTES_MAX:
        return text
    return f"{text[:_PART_BYTES_KEPT]}~~{hashlib.sha256(part.encode()).hexdigest()[:16]}"
