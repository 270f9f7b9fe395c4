"""
The whole dict of a task with ``multiple_outputs``.

Airflow pushes every member and then the dict that holds them all. What the members' rows refer to is not written
again: the dict's row refers to the same bytes by names of its own, so that purging one row takes nothing from another.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from airfreight.errors import ObjectNotFoundError
from airfreight.inline import is_inline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airfreight.origin import Origin
    from airfreight.process import Process
    from airfreight.references import Row

_REST_BYTES_MAX = 16 * 1024
_PARTS_MAX = 256
_WALK_MAX = 20_000

_ATOMS = (type(None), bool, int, float, complex, str, bytes, range, type)


def write(process: Process, value: Any, origin: Origin) -> Row | None:
    """
    An unsigned row for a dict whose members were just written; ``None`` if that is not what the value is.

    ``None`` as well when members share an object, because the dict must come back with it shared.
    """
    from airfreight import codec, rows

    pushes = process.pushes[-len(value) :] if type(value) is dict and value else []
    if not pushes or origin.where.key != rows.RETURN_KEY or len(pushes) != len(value):
        return None
    members = zip(pushes, value.items(), strict=True)
    if not all(push.key == key and push.value is item for push, (key, item) in members):
        return None
    objects = {push.key: push.row for push in pushes if push.key is not None and "id" in push.row}
    if not 0 < len(objects) <= _PARTS_MAX or _share(value):
        return None
    parts = _link(process, objects)
    if parts is None:
        return None
    try:
        rest = _pack_rest(process, {key: item for key, item in value.items() if key not in objects}, origin)
    except BaseException:
        _unlink(process, parts)
        raise
    type_name, preview = codec.describe(value)
    nbytes = sum(row["nbytes"] for row in objects.values())
    row = rows.head(type_name, nbytes, preview if process.settings.preview else {})
    return row | {"keys": list(value), "parts": parts, "rest": rest} | rows.place(process, origin)


def read(row: Row, get: Callable[[str], Any], load_inline: Callable[[Row], Any]) -> dict[str, Any]:
    """The dict that a row of this kind stands for."""
    rest = row["rest"]
    small = rest["json"] if "json" in rest else get(rest["id"]) if "id" in rest else load_inline(rest)
    parts = row["parts"]
    return {key: get(parts[key]["id"]) if key in parts else small[key] for key in row["keys"]}


def _pack_rest(process: Process, rest: dict[str, Any], origin: Origin) -> Row:
    from airfreight import codec, rows

    if is_inline(rest, _REST_BYTES_MAX):
        return {"json": rest}
    if process.settings.allow_pickle and (data := codec.dumps(rest, _REST_BYTES_MAX)) is not None:
        return {"inline": base64.b64encode(data).decode("ascii")}
    return {"id": rows.put(process, rest, origin)["id"]}


def _link(process: Process, objects: dict[str, Row]) -> dict[str, Row] | None:
    """New names for the members' objects; ``None`` if one of them has gone in the meantime."""
    parts: dict[str, Row] = {}
    try:
        for key, row in objects.items():
            parts[key] = {"type": row["type"], "id": process.store.link(row["id"])}
    except ObjectNotFoundError:
        _unlink(process, parts)
        return None
    return parts


def _unlink(process: Process, parts: dict[str, Row]) -> None:
    for part in parts.values():
        process.store.delete(part["id"])


def _share(value: dict[str, Any]) -> bool:
    """
    Whether two members of a dict hold the same object.

    Looks into containers and into plain objects' attributes, for a bounded number of steps: beyond it, or inside of
    arrays and frames, nothing is held to be shared.
    """
    seen: set[int] = set()
    steps = 0
    for member in value.values():
        mine: set[int] = set()
        waiting = [member]
        while waiting and steps < _WALK_MAX:
            item = waiting.pop()
            steps += 1
            if isinstance(item, _ATOMS) or id(item) in mine:
                continue
            if id(item) in seen:
                return True
            mine.add(id(item))
            waiting.extend(_held_by(item))
        seen |= mine
    return False


def _held_by(item: Any) -> Iterator[Any]:
    if isinstance(item, dict):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, list | tuple | set | frozenset):
        yield from item
    elif type(item).__module__.partition(".")[0] not in ("numpy", "pandas", "pyarrow", "polars", "torch"):
        yield from getattr(item, "__dict__", {}).values()
