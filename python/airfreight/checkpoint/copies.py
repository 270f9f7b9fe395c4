"""
Copies of objects: into the bucket when a task returns a value, back when the value is gone from hosts and clusters.

``newest`` is a signed document that holds the row which a task returned last. It is looked at only when the task runs
again and may take its former value in place of its work.
"""

from __future__ import annotations

import json
import logging
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight import journal, references
from airfreight.checkpoint import later, wish
from airfreight.checkpoint.place import NEWEST, folder, open_again, open_place
from airfreight.errors import (
    AirfreightError,
    CorruptError,
    InvalidError,
    ObjectLostError,
    ObjectNotFoundError,
    UnavailableError,
)
from airfreight.inline import ROW_MEMBER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airfreight.checkpoint.wish import Plan
    from airfreight.origin import Coordinates, Origin
    from airfreight.process import Process
    from airfreight.references import Row

#: One name for all that happens to values, so that it can be filtered as a whole.
log = logging.getLogger("airfreight.xcom")

#: A row with its preview is far smaller.
_NEWEST_BYTES_MAX = 1 << 20

#: The member of a document that says which row it is of; rows don't have it.
_OF = "checkpoint"


class Reused(NamedTuple):
    """
    In place of a value that a task would have made again: what its checkpoint's row was.

    :param row: the signed row, or the value itself where that stood in the row.
    :param where: for people.
    """

    row: Any
    where: str


def is_wanted(process: Process, origin: Origin) -> Plan | None:
    """Where the value that is being written is to be copied to; ``None``: nowhere."""
    return wish.plan_of(getattr(origin.running, "task", None), process.settings)


def upload(process: Process, name: str, origin: Origin, plan: Plan) -> dict[str, Any]:
    """
    Copy an object of the store into the bucket, or write down that the agent is to do it.

    :returns: what the row says of the copy.
    :raises DeniedError: the bucket refuses; other errors say what else was wrong with which bucket and key.
    """
    place = open_place(process, plan.where)
    key = f"{folder(process.deployment, origin.where)}/{name}"
    at = {"url": place.bucket.url, "conn": place.conn_id, "key": key}
    reuse = {"reuse": True} if plan.reuse else {}
    if plan.queued is not None:
        copied = later.checksum(process, name)
        plan.queued.append({"name": name, "key": key, **copied})
        return at | copied | reuse | {"later": name}
    began = perf_counter()
    copied = place.bucket.put_object(process.store_options, name, key, journal.progress("uploaded", "to the bucket"))
    process.store.note_copy(name)
    log.info(
        "checkpointed %s: %s in %.1f ms, %s/%s",
        origin.where.key,
        references.size_text(copied["nbytes"]),
        (perf_counter() - began) * 1e3,
        place.bucket.url,
        key,
    )
    return at | copied | reuse


def complete(process: Process, row: Row, origin: Origin, plan: Plan) -> Row:
    """
    An unsigned row with copies of all its objects in the bucket.

    :raises AirfreightError: a copy could not be made; then the objects of the row are gone from the store, too.
    """
    try:
        if "id" in row:
            return row | {"bucket": upload(process, row["id"], origin, plan)}
        if "parts" not in row:
            return row
        # Members have their copies already, under their own keys; their links here are the same bytes.
        pushed = {push.key: push.row.get("bucket") for push in process.pushes}
        parts = {
            key: part | {"bucket": pushed.get(key) or upload(process, part["id"], origin, plan)}
            for key, part in row["parts"].items()
        }
        if plan.queued is None:
            for part in parts.values():
                process.store.note_copy(part["id"])
        else:
            # So that what is returned last is published when all of it is there.
            plan.queued.extend(
                {"name": part["id"]} | {name: part["bucket"][name] for name in ("key", "nbytes", "crc64")}
                for key, part in parts.items()
                if pushed.get(key)
            )
        rest = row["rest"]
        if "id" in rest:
            rest = rest | {"bucket": upload(process, rest["id"], origin, plan)}
    except AirfreightError:
        for name in references.names_in(row):
            process.store.delete(name)
        raise
    return row | {"parts": parts, "rest": rest}


def publish(process: Process, plan: Plan, origin: Origin, stored: Any) -> None:
    """
    Say in the bucket what a task has returned last, and delete what it had returned before that.

    Where the agent uploads, it does this, too, once the copies are there.

    :param stored: the signed row, or the value that stands in its place.
    """
    place = open_place(process, plan.where)
    below = folder(process.deployment, origin.where)
    document = references.sign({ROW_MEMBER: references.VERSION, _OF: below, "row": stored}, process.keys)
    newest = f"{below}/{NEWEST}", json.dumps(document)
    if plan.queued is not None:
        _leave_to_agent(process, plan, origin, stored, newest)
        return
    replaced = _replaced(process, plan, origin.where, stored) if plan.reuse else []
    place.bucket.put(newest[0], newest[1].encode())
    for key in replaced:
        place.bucket.delete(key)


def _leave_to_agent(process: Process, plan: Plan, origin: Origin, stored: Any, newest: tuple[str, str]) -> None:
    replaced: list[str] = []
    if plan.reuse:
        try:
            replaced = _replaced(process, plan, origin.where, stored)
        except AirfreightError as error:
            log.warning("left a replaced checkpoint until `airfreight checkpoint rm`: %s", error.message)
    try:
        place = open_place(process, plan.where)
        later.enqueue(process, place, plan.queued or [], {"key": newest[0], "text": newest[1]}, replaced)
    except AirfreightError:
        for name in references.names_in(stored) if references.is_row(stored) else ():
            process.store.delete(name)
        raise


def _replaced(process: Process, plan: Plan, where: Coordinates, stored: Any) -> list[str]:
    """The keys of the copies that nobody needs any more once ``stored`` is what the task returned last."""
    kept = {copy["key"] for copy in copies_of(stored)}
    return [copy["key"] for copy in copies_of(_newest(process, plan, where)) if copy["key"] not in kept]


def reusable(process: Process, plan: Plan, where: Coordinates) -> Reused | None:
    """
    What a task instance returned last, if all of it still lies in the bucket.

    :raises AirfreightError: the bucket doesn't tell.
    """
    stored = _newest(process, plan, where)
    if stored is None:
        return None
    place = open_place(process, plan.where)
    for copy in copies_of(stored):
        nbytes = open_again(process, copy).bucket.size(copy["key"])
        if nbytes != copy["nbytes"]:
            log.warning("will not reuse the checkpoint %s/%s: it is gone or cut", copy["url"], copy["key"])
            return None
    return Reused(stored, f"{place.bucket.url}/{folder(process.deployment, where)}")


def _newest(process: Process, plan: Plan, where: Coordinates) -> Any:
    below = folder(process.deployment, where)
    place = open_place(process, plan.where)
    data = place.bucket.get(f"{below}/{NEWEST}", _NEWEST_BYTES_MAX)
    if data is None:
        return None
    try:
        document: dict[str, Any] = dict(json.loads(data))
        references.verify(document, process.keys)
        stored = document["row"]
        if references.is_row(stored):
            references.verify(stored, process.keys)
    except (ValueError, TypeError, LookupError, AirfreightError) as error:
        log.warning(
            "ignoring %s/%s/%s, which is not signed by this deployment: %s", place.bucket.url, below, NEWEST, error
        )
        return None
    if document.get(_OF) != below:
        log.warning("ignoring %s/%s/%s, which is of another task", place.bucket.url, below, NEWEST)
        return None
    return stored


def restore(process: Process, row: Row, content: Row) -> None:
    """
    Bring an object from its checkpoint into the store of this host, under its own name.

    :param content: the row, or the part of it, that names the object and its copy.
    :raises ObjectLostError: the checkpoint is gone, too.
    :raises CorruptError: its bytes are not what was put there; nothing of them is kept.
    """
    copy = content["bucket"]
    url = f"{copy['url']}/{copy['key']}"
    value = references.value_text(row)
    hint = references.clear_hint(row.get("owner") or {})
    log.info("%s is not on this host; reading its checkpoint %s", value, url)
    began = perf_counter()
    try:
        bucket = open_again(process, copy).bucket
        bucket.get_object(
            process.store_options, content["id"], copy["key"], copy, journal.progress("downloaded", "from the bucket")
        )
    except ObjectNotFoundError as error:
        if copy.get("later"):
            raise UnavailableError(
                f"{value} is not on this host, and its checkpoint is not there yet: the agent of host "
                f"{row.get('host')} was to upload it ({error.message})",
                f"run the task again once that host's `airfreight agent` has; its page says what waits. If the host is "
                f"gone, {hint}",
            ) from error
        raise ObjectLostError(
            f"{value} is not on this host, and its checkpoint is gone ({error.message})", hint
        ) from error
    except CorruptError as error:
        raise CorruptError(f"{value} is not on this host, and {error.message}", hint) from error
    except AirfreightError as error:
        error.message = f"{value} is not on this host, and its checkpoint cannot be read: {error.message}"
        error.args = (error.message, error.hint)
        raise
    process.store.note_copy(content["id"])
    log.info(
        "read the checkpoint of %s: %s in %.1f ms",
        value,
        references.size_text(copy["nbytes"]),
        (perf_counter() - began) * 1e3,
    )


def purge(process: Process, row: Row) -> bool:
    """
    Delete the copies of a row that is being deleted.

    :returns: whether all of the row stays, its local objects, too: the task that runs again may take it.
    """
    copies = list(copies_of(row))
    if not copies:
        return False
    task = _running_task()
    try:
        plan = wish.plan_of(task, process.settings) if task is not None else None
    except InvalidError:
        plan = None
    if any(copy.get("reuse") for copy in copies) if plan is None else plan.reuse:
        return True
    # What the agent has not uploaded yet, it must not upload after this.
    if waiting := [copy["later"] for copy in copies if "later" in copy]:
        later.withdraw(process, waiting)
    for copy in copies:
        try:
            bucket = open_again(process, copy).bucket
            bucket.delete(copy["key"])
            bucket.delete(f"{copy['key'].rpartition('/')[0]}/{NEWEST}")
        except AirfreightError as error:
            log.warning("left a replaced checkpoint until `airfreight checkpoint rm`: %s", error.message)
    return False


def copies_of(stored: Any) -> Iterator[dict[str, Any]]:
    """What a row says of its copies, one after the other."""
    if not references.is_row(stored):
        return
    for row in references.rows_in(stored):
        for content in (row, row.get("rest") or {}, *(row.get("parts") or {}).values()):
            if "bucket" in content:
                yield content["bucket"]


def copy_of(row: Row, name: str) -> Row | None:
    """The part of a row that says where the copy of an object is."""
    content: Row
    for content in (row, row.get("rest") or {}, *(row.get("parts") or {}).values()):
        if content.get("id") == name and "bucket" in content:
            return content
    return None


def _running_task() -> Any:
    """
    The operator of the task that is about to run.

    Airflow deletes a task's former XComs before it tells anyone which task it is; only its call stack knows.
    """
    import sys

    frame: Any = sys._getframe(1)  # noqa: SLF001 - as the docstring says
    while frame is not None:
        if (
            frame.f_code.co_name == "run"
            and frame.f_globals.get("__name__") == "airflow.sdk.execution_time.task_runner"
        ):
            return getattr(frame.f_locals.get("ti"), "task", None)
        frame = frame.f_back
    return None
