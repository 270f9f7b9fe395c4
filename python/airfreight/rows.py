"""Values into XCom rows and back: inline, embedded, or as a reference to an object in the store or in Ray."""

from __future__ import annotations

import base64
import copyreg
import logging
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from airfreight import brevity, caller, checkpoint, composite, journal, neighbours, references, trees
from airfreight.caller import Purpose
from airfreight.errors import (
    AirfreightError,
    CorruptError,
    DeniedError,
    ObjectLostError,
    ObjectNotFoundError,
    StoreFullError,
)
from airfreight.expanding import StoredSequence
from airfreight.inline import ROW_MEMBER, is_inline
from airfreight.process import Process, Push, here
from airfreight.ray import handle

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.origin import Coordinates, Origin
    from airfreight.references import Row

RETURN_KEY = "return_value"

#: One name for all that happens to values, so that it can be filtered as a whole.
log = logging.getLogger("airfreight.xcom")


def write(value: Any, origin: Origin) -> Any:
    """
    What the XCom row of a value holds; a large value goes into the store.

    :raises UnstorableError: a part of the value can't be stored; the message names it, and the task.
    :raises StoreFullError: there is no room for it.
    """
    began = perf_counter()
    process = here()
    if isinstance(value, checkpoint.Reused):
        return value.row
    value = _as_list(value)
    try:
        row = _encode(process, value, origin)
    except AirfreightError as error:
        error.message = f"{error.message} ({origin.where})"
        error.args = (error.message, error.hint)
        raise
    names = references.names_in(row) if references.is_row(row) else []
    if names:
        journal.stored(row, origin.where.key, began)
    elif references.is_row(row) and ("ray" in row or "tree" in row):
        journal.left(row, origin.where.key)
    if origin.running is not None:
        process.wrote(origin.where.key, names)
    process.sweep()
    return row


def read(row: Row) -> Any:
    """
    The value of a row that claims to be ours.

    :raises DeniedError: the row was not signed with a key of ours; nothing of it was looked at.
    :raises ObjectLostError: the value is not on this host; the message says where it was and which task to clear.
    """
    process = here()
    references.verify(row, process.keys)
    if "inline" in row:
        return _load_inline(process, row)
    purpose = caller.purpose()
    load = partial(_hold if caller.takes_handles() else _glance if purpose is Purpose.PRINT else load_part, process)
    if purpose is Purpose.EXPAND and "elements" in row:
        if "tree" in row:
            return trees.expand(row, load)
        if "bucket" not in row and not neighbours.serve(process, row):
            _require_local(process, row)
        return StoredSequence(row["elements"], lambda index: _get_element(process, row, index))
    value = trees.read(row, load) if "tree" in row else load(row)
    if load.func is _hold:
        return value
    if purpose is Purpose.RENDER and process.task_instance is None:
        brevity.shorten_argument(value)
    elif purpose is Purpose.PRINT and row["nbytes"] > brevity.PRINTED_BYTES_MAX:
        value = brevity.for_template(value, row["size"])
    return value


def purge(row: Row, where: Coordinates | None) -> None:
    """
    Delete what a row refers to, if it is on this host; other rows' names for the same bytes stay.

    :param where: the row's coordinates where they are known: a reference that was copied from another task's row
        deletes nothing.
    :raises DeniedError: the row was not signed with a key of ours.
    """
    process = here()
    references.verify(row, process.keys)
    for part in references.rows_in(row):
        if _is_owner(part, where) and checkpoint.purge(process, part):
            continue
        if "ray" in part:
            if _is_owner(part, where, ("dag_id", "run_id", "task_id")):
                from airfreight.ray import plane

                plane.drop(process, part)
            continue
        names = references.names_in(part)
        if not names or part.get("store") != process.store.store_id or not _is_owner(part, where):
            continue
        for name in names:
            process.store.delete(name)


def load(row: Row) -> Any:
    """The value of a row that is known to be ours: a handle's."""
    return load_part(here(), row)


def load_part(process: Process, row: Row) -> Any:
    """The value of a verified row that is no container of others, and a line in the log that says where it was."""
    if "inline" in row:
        return _load_inline(process, row)
    if "ray" in row:
        return _load_from_ray(process, row)
    began = perf_counter()
    value = _load(process, row)
    journal.read(row, began)
    return value


def _hold(process: Process, row: Row) -> Any:
    """What a task on Ray gets: a handle of what is large, else the value."""
    if "ray" in row:
        return handle.RayValue(row)
    is_held = int(row.get("nbytes") or 0) >= handle.HELD_BYTES_MIN
    if is_held and "id" in row and row["store"] == process.store.store_id and process.store.contains(row["id"]):
        return handle.StoredValue(row)
    return load_part(process, row)


def _glance(process: Process, row: Row) -> Any:
    """What a template gets, which mostly prints it: not worth bringing gigabytes here for."""
    is_far = "ray" in row and row["nbytes"] > brevity.PRINTED_BYTES_MAX
    # What Python has built in is printed by filters that take nothing else.
    if is_far and "." in row["type"]:
        return brevity.Distant(row["type"], row["size"], lambda: load_part(process, row))
    return load_part(process, row)


def _load_from_ray(process: Process, row: Row) -> Any:
    from airfreight.ray import plane

    name = plane.fetch(process, row)
    try:
        return _get(process, name)
    except ObjectNotFoundError:
        # The copy on this host went in the meantime.
        return _get(process, plane.fetch(process, row))


def _encode(process: Process, value: Any, origin: Origin) -> Any:
    settings = process.settings
    plan = checkpoint.is_wanted(process, origin)
    row = _refer(process, value, origin, plan)
    if row is None and is_inline(value, settings.inline_bytes_max):
        if plan is not None and plan.reuse:
            checkpoint.publish(process, plan, origin, value)
        _remember(process, origin, value, {})
        return value
    row = row or _embed(process, value)
    if row is None:
        if plan is None or plan.queued is not None:
            process.require_lasting_store()
        row = composite.write(process, value, origin) or put(process, value, origin)
        if plan is not None:
            row = checkpoint.complete(process, row, origin, plan)
    row = references.sign(row, process.keys)
    if plan is not None and (plan.reuse or plan.queued or "bucket" in row or "parts" in row):
        checkpoint.publish(process, plan, origin, row)
    _remember(process, origin, value, row)
    return row


def _refer(process: Process, value: Any, origin: Origin, plan: checkpoint.Plan | None) -> Row | None:
    """An unsigned row for what a task on Ray has left there; ``None`` for every other value."""
    if not handle.exist():
        return None

    def encode(part: Any) -> Row:
        if not isinstance(part, handle.RayValue):
            row = _embed(process, part) or put(process, part, origin)
            return row if plan is None else checkpoint.complete(process, row, origin, plan)
        # A value that another task has made stays that task's.
        if "hmac" in part.row:
            return {name: member for name, member in part.row.items() if name != "hmac"}
        row = part.row | {"owner": origin.owner()}
        if plan is None:
            return row
        from airfreight.ray import plane

        # The cluster hands it to this host, which checks and keeps it, and has the credentials of the bucket.
        return row | {"bucket": checkpoint.upload(process, plane.fetch(process, row), origin, plan)}

    if isinstance(value, handle.RayValue):
        return encode(value)
    return trees.write(value, encode) if trees.holds_ray_values(value) else None


def _embed(process: Process, value: Any) -> Row | None:
    """A row that holds the value itself, if its pickle is small enough."""
    from airfreight import codec

    settings = process.settings
    if not settings.allow_pickle or settings.inline_bytes_max == 0:
        return None
    data = codec.dumps(value, settings.inline_bytes_max)
    if data is None:
        return None
    type_name, preview = codec.describe(value)
    row: Row = {ROW_MEMBER: references.VERSION, "type": type_name}
    if settings.preview:
        row["preview"] = preview
    return row | {"inline": base64.b64encode(data).decode("ascii")}


def put(process: Process, value: Any, origin: Origin) -> Row:
    """An unsigned row that refers to a new object."""
    from airfreight import codec

    settings = process.settings
    stored = codec.put(
        process.store,
        value,
        owner=origin.owner(),
        allow_pickle=settings.allow_pickle,
        preview=settings.preview,
        elements=type(value) in (list, tuple) and _is_expanded_over(origin),
    )
    row = head(stored.type, stored.nbytes, stored.preview) | {"id": stored.name}
    if stored.elements is not None:
        row["elements"] = stored.elements
    return row | place(process, origin)


def head(type_name: str, nbytes: int, preview: dict[str, Any]) -> Row:
    """What people read of a reference."""
    row: Row = {ROW_MEMBER: references.VERSION, "type": type_name, "size": references.size_text(nbytes)}
    if preview:
        row["preview"] = preview
    return row | {"nbytes": nbytes}


def place(process: Process, origin: Origin) -> Row:
    """Where the objects of a reference are, and whose they are."""
    where: Row = {
        "store": process.store.store_id,
        "host": references.host_name(),
        "boot": references.boot_id(),
        "created": references.now_text(),
        "owner": origin.owner(),
    }
    return where | {"agent": process.agent_url} if process.agent_url else where


def _load(process: Process, row: Row) -> Any:
    get = partial(_get_or_restore, process, row, _get)
    if "parts" in row:
        return composite.read(row, get, partial(_load_inline, process))
    return get(row["id"])


def _get_or_restore(process: Process, row: Row, get: Callable[[Process, str], Any], name: str) -> Any:
    """What ``get`` reads of an object: from the store of this host, else once it has been brought there."""
    copy = checkpoint.copy_of(row, name)
    is_elsewhere = neighbours.serve(process, row)
    is_only_here = copy is None and not is_elsewhere
    if is_only_here:
        _require_local(process, row)
    try:
        return get(process, name)
    except ObjectNotFoundError as error:
        if is_only_here:
            raise _lost(process, row) from error
    except CorruptError:
        if is_only_here:
            raise
        process.store.delete(name)
    if not is_elsewhere or not _fetch(process, row, name, or_else=copy is not None):
        checkpoint.restore(process, row, copy or row)
    return get(process, name)


def _fetch(process: Process, row: Row, name: str, *, or_else: bool) -> bool:
    """Bring an object from its host; ``False`` where that fails and there is another copy."""
    try:
        neighbours.fetch(process, row, name, has_copy=or_else)
    except StoreFullError:
        raise
    except AirfreightError as error:
        if not or_else:
            raise
        log.warning("%s", error.message)
        return False
    return True


def _get(process: Process, name: str) -> Any:
    from airfreight import codec

    settings = process.settings
    return codec.get(process.store, name, allow_pickle=settings.allow_pickle, writable=settings.mapping == "private")


def _get_element(process: Process, row: Row, index: int) -> Any:
    from airfreight import codec

    began = perf_counter()
    settings = process.settings

    def get(process: Process, name: str) -> Any:
        return codec.get_element(
            process.store, name, index, allow_pickle=settings.allow_pickle, writable=settings.mapping == "private"
        )

    value = _get_or_restore(process, row, get, row["id"])
    journal.read(row, began, index)
    if process.task_instance is None:
        brevity.shorten_argument(value)
    return value


def _require_local(process: Process, row: Row) -> None:
    if row["store"] != process.store.store_id:
        raise _lost(process, row)


def _lost(process: Process, row: Row) -> ObjectLostError:
    return references.lost(row, process.store.store_id, process.settings.ttl_hours)


def _load_inline(process: Process, row: Row) -> Any:
    from airfreight import codec

    if not process.settings.allow_pickle:
        raise DeniedError(
            f"the XCom row holds a pickle of {row.get('type', 'a value')}, and [airfreight] allow_pickle is false here",
            "rerun the task that made it with allow_pickle = false as well, or allow pickle for both",
        )
    return codec.loads(base64.b64decode(row["inline"]))


def _is_expanded_over(origin: Origin) -> bool:
    """Whether a mapped task expands over the value: then its elements are stored so that each can be read alone."""
    if origin.running is None or origin.where.key != RETURN_KEY or origin.where.map_index != -1:
        return False
    return next(origin.running.task.iter_mapped_dependants(), None) is not None


def _remember(process: Process, origin: Origin, value: Any, row: Row) -> None:
    running, key = origin.running, origin.where.key
    if running is None or not getattr(running.task, "multiple_outputs", False) or key == RETURN_KEY:
        process.pushes.clear()
    else:
        process.pushes.append(Push(key, value, row))


def _is_owner(
    row: Row, where: Coordinates | None, fields: tuple[str, ...] = ("dag_id", "run_id", "task_id", "key")
) -> bool:
    if where is None:
        return True
    owner = row.get("owner") or {}
    return all(owner.get(field) == getattr(where, field) for field in fields)


def _as_list(value: Any) -> Any:
    """
    What a task gets for all the results of a mapped task is a view of this run; as a value it is the list of them.

    So it is inside of another value.
    """
    module = sys.modules.get("airflow.sdk.execution_time.lazy_sequence")
    view = getattr(module, "LazyXComSequence", None)
    if view is None:
        return value
    if view not in copyreg.dispatch_table:
        copyreg.pickle(view, _reduce_to_list)
    return value[:] if isinstance(value, view) else value


def _reduce_to_list(view: Any) -> tuple[Any, ...]:
    return list, (view[:],)
