"""
What stands in an XCom row in place of a value, and what it says when the value is gone.

A row of ours is a JSON object with a version under ``airfreight``, a readable part (``type``, ``size``, ``preview``)
and an ``hmac`` over the whole. Of version 1 it holds one of:

- ``inline``: a small value that JSON cannot hold exactly, pickled; needs no store.
- ``id``: the name of an object in the store ``store``.
- ``parts`` and ``rest``: a dict whose large members have objects of their own (``multiple_outputs``).

Of version 2, which knows of Ray:

- ``ray``: what a value in a Ray cluster is called there: connection, session, owner, generation and key.
- ``tree`` and ``rows``: a container with such values in it, see :mod:`airfreight.trees`.

``agent`` is where tasks on other hosts can ask for the objects, if there is such a place.

There is no path in it, nor anything else that a reader would follow unchecked.
"""

from __future__ import annotations

import json
import re
import socket
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from airfreight.errors import DeniedError, InvalidError, ObjectLostError
from airfreight.inline import ROW_MEMBER, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = 1

#: Of rows that only an Airfreight can read which knows of values in Ray clusters.
VERSION_RAY = 2

_VERSIONS = (VERSION, VERSION_RAY)
_CONTENTS = ("id", "inline", "parts", "ray", "tree", "hmac")
_RUN_DATE = re.compile(r"__(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d:\d\d|Z))")

Row = dict[str, Any]


def is_row(stored: Any) -> TypeGuard[Row]:
    """Whether a row claims to be one of ours; whether that is true, :func:`verify` finds out."""
    if not isinstance(stored, dict) or type(stored.get(ROW_MEMBER)) is not int:
        return False
    return any(member in stored for member in _CONTENTS)


def sign(row: Row, keys: Sequence[bytes]) -> Row:
    """The same row with its signature; what databases refuse in a preview is replaced first."""
    from airfreight._store import sign_reference

    signed: Row = json.loads(sign_reference(json.dumps(printable(row)), keys))
    # Airflow's UI shows members in this order where the database keeps it.
    return {name: signed[name] for name in (*row, "hmac")}


def verify(row: Row, keys: Sequence[bytes]) -> None:
    """
    Make sure that a row was made by a holder of one of the keys; comes before anything else that is done with it.

    :raises DeniedError: it is not signed, or with another key.
    :raises InvalidError: a newer Airfreight made it.
    """
    from airfreight._store import verify_reference

    try:
        text = json.dumps(row, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise DeniedError("an XCom row that claims to be Airfreight's is not JSON") from error
    try:
        verify_reference(text, keys)
    except InvalidError as error:
        raise DeniedError("an XCom row that claims to be Airfreight's is not JSON", error.hint) from error
    if row[ROW_MEMBER] not in _VERSIONS:
        raise InvalidError(
            f"this XCom row has version {row[ROW_MEMBER]}; this Airfreight reads versions up to {VERSION_RAY}",
            "install the Airfreight that the task which wrote it ran with, or a later one",
        )


def names_in(row: Row) -> list[str]:
    """Every object of a store that a row refers to."""
    named = [
        content
        for each in rows_in(row)
        for content in (each, each.get("rest") or {}, *(each.get("parts") or {}).values())
    ]
    return [content["id"] for content in named if "id" in content]


def rows_in(row: Row) -> list[Row]:
    """The rows that stand for values: the row itself, or those in its tree."""
    return row["rows"] if "tree" in row else [row]


def size_text(nbytes: int) -> str:
    """A size for people."""
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{nbytes} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@cache
def host_name() -> str:
    """Where this process runs; for messages only, it decides nothing."""
    return socket.gethostname()


@cache
def boot_id() -> str | None:
    """Changes with every start of the kernel; for messages only."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def now_text() -> str:
    """The time as rows hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def owner_text(owner: Mapping[str, Any]) -> str:
    """A task instance in words."""
    task = f"task {owner.get('dag_id', '?')}.{owner.get('task_id', '?')}"
    map_index = owner.get("map_index")
    if isinstance(map_index, int) and map_index >= 0:
        task += f"[{map_index}]"
    return task + (f", run {owner['run_id']}" if owner.get("run_id") else "")


def clear_hint(owner: Mapping[str, Any]) -> str:
    """How to have a value made again."""
    dag_id, task_id, run_id = (owner.get(name) for name in ("dag_id", "task_id", "run_id"))
    if not (dag_id and task_id and run_id):
        return "clear the task that made it, with its downstream tasks"
    in_words = f"clear task {task_id} of run {run_id} of DAG {dag_id}, with its downstream tasks"
    if date := _RUN_DATE.search(run_id):
        regex = "^" + re.escape(task_id).replace(r"\-", "-") + "$"
        return f"{in_words}: airflow tasks clear -d -t '{regex}' -s '{date[1]}' -e '{date[1]}' {dag_id}"
    return f"{in_words} (in Airflow's UI; `airflow tasks clear` selects runs by date only)"


def value_text(row: Row) -> str:
    """Which value a row stands for, in words."""
    owner = row.get("owner") or {}
    size = f", {row['size']}" if row.get("size") else ""
    key = owner.get("key", "return_value")
    return f"the value of {owner_text(owner)}, key {key!r} ({row.get('type', 'unknown type')}{size})"


def lost(row: Row, store_id: str, ttl_hours: float) -> ObjectLostError:
    """Says where a value was, why it is not there any more, and which task makes it again."""
    owner = row.get("owner") or {}
    what = value_text(row)
    hint = clear_hint(owner)
    host, boot = row.get("host"), row.get("boot")
    if row.get("store") == store_id:
        if (age := _age_hours(row)) is not None and age >= ttl_hours:
            return ObjectLostError(
                f"{what} has expired: it was made {age:.0f} hours ago, and values expire {ttl_hours:g} hours after "
                f"their last use",
                f"{hint}; or raise [airfreight] ttl_hours",
            )
        return ObjectLostError(
            f"{what} was deleted from the store of this host: by `airfreight store gc` or `rm`, or when its task was "
            f"run again",
            hint,
        )
    if host != host_name():
        return ObjectLostError(
            f"{what} is in the shared memory of host {host}; this task runs on host {host_name()}",
            f"run both tasks on one host, for example by queue, or an agent on each host ([airfreight] agent_url); "
            f"if that host is gone, {hint}",
        )
    if boot != boot_id():
        return ObjectLostError(
            f"{what} was in the shared memory of this host ({host}) before it was started again", hint
        )
    return ObjectLostError(
        f"{what} was in another store on this host ({host}), which was removed, or which this task does not see",
        f"give every task the same [airfreight] store_path (and every container the same /dev/shm); then {hint}",
    )


def _age_hours(row: Row) -> float | None:
    try:
        made = datetime.fromisoformat(row["created"])
        return (datetime.now(UTC) - made).total_seconds() / 3600
    except (KeyError, TypeError, ValueError):
        return None
