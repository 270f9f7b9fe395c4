"""
Checkpoints that the host's agent makes while tasks go on: ``checkpoint="async"``.

A row's upload stands in the store's queue before Airflow hears of the row, so a checkpoint that a row names is made
however the task ends. The queue names a bucket and a connection and holds no credentials; the agent has its own.
"""

from __future__ import annotations

import json
import logging
import secrets
from functools import cache
from typing import TYPE_CHECKING, Any

from airfreight.errors import AirfreightError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airfreight._remote import UploadQueue
    from airfreight.checkpoint.place import Place
    from airfreight.process import Process

#: One name for all that happens to values, so that it can be filtered as a whole.
log = logging.getLogger("airfreight.xcom")

_VERSION = 1


def checksum(process: Process, name: str) -> dict[str, Any]:
    """Length and checksum that the copy of an object will have."""
    return _queue(process).checksum(name)


def enqueue(
    process: Process, place: Place, objects: list[dict[str, Any]], newest: dict[str, str], replaces: list[str]
) -> None:
    """
    Leave the upload of a row's objects to the agent of this host.

    :param newest: what is written when the objects are there: ``key`` and ``text``.
    :param replaces: keys that are deleted then.
    :raises AirfreightError: it could not be written down; nothing will be uploaded.
    """
    queued = {
        "version": _VERSION,
        "url": place.bucket.url,
        "conn": place.conn_id,
        "objects": objects,
        "newest": newest,
        "replaces": replaces,
    }
    # Without an object, only what the task returned last is to be kept.
    name = objects[0]["name"] if objects else secrets.token_hex(16)
    queue = _queue(process)
    queue.add(name, json.dumps(queued))
    if queue.is_served:
        log.info("left the checkpoint to this host's agent: %s", place.bucket.url)
    else:
        _warn(str(process.store.path))


def withdraw(process: Process, names: Iterable[str]) -> None:
    """Take uploads that have not been made out of the queue."""
    queue = _queue(process)
    for name in names:
        try:
            queue.remove(name)
        except AirfreightError as error:
            log.warning("could not withdraw a checkpoint: %s", error.message)


def _queue(process: Process) -> UploadQueue:
    from airfreight._remote import UploadQueue

    return UploadQueue(process.store_options)


@cache
def _warn(path: str) -> None:
    """Once per process: a task may write many values."""
    log.warning(
        "no `airfreight agent` looks after %s: what this task returns has no checkpoint until one runs here", path
    )
