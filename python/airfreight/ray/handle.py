"""
Values that a task passes on without having them: what a task on Ray returns, and what it takes.

A handle is small and knows where its value is. Plain tasks never see one: they get the value. A handle is neither a
list nor a dict and prints in brief, because Airflow walks and prints whatever it passes to a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airfreight.references import Row

#: Smaller values of the store travel with the call that takes them.
HELD_BYTES_MIN = 1024 * 1024

_DEPTH_MAX = 20

_made = False


def exist() -> bool:
    """Whether this process has made any handle: else no value needs to be searched for them."""
    return _made


class Handle:
    """What both kinds have in common."""

    __slots__ = ("row",)

    def __init__(self, row: Row) -> None:
        global _made  # noqa: PLW0603 - as `exist` says
        _made = True
        #: What the XCom row of the value holds, or would hold.
        self.row = row

    @property
    def type(self) -> str:
        """The value's type, as one would import it."""
        return str(self.row.get("type", "a value"))

    @property
    def nbytes(self) -> int:
        """What the value takes."""
        return int(self.row.get("nbytes") or 0)

    def fetch(self) -> Any:
        """
        The value itself.

        :raises ObjectLostError: it is gone; the message says which task to clear.
        """
        from airfreight import rows

        return rows.load(self.row)

    def __reduce__(self) -> NoReturn:
        raise InvalidError(
            f"a value of type {self.type} that is not in this process can't be packed inside of another object",
            "pass it as an argument of its own, or in a list, tuple or dict",
        )


class RayValue(Handle):
    """A value in a Ray cluster."""

    __slots__ = ()

    @property
    def place(self) -> dict[str, Any]:
        """Owner, generation and key: what a value is called in its cluster."""
        ray = self.row["ray"]
        return {name: ray[name] for name in ("owner", "generation", "key")}

    @property
    def session(self) -> str | None:
        """Which cluster holds it: Ray's name of its session."""
        session = self.row["ray"].get("session")
        return None if session is None else str(session)

    def __repr__(self) -> str:
        size = self.row.get("size")
        return f"<{self.type}{f', {size},' if size else ''} on Ray, connection {self.row['ray'].get('conn')}>"


class StoredValue(Handle):
    """A value in the store of this host, taken by a task on Ray without being read here."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The object's name in the store."""
        return str(self.row["id"])

    def __repr__(self) -> str:
        size = self.row.get("size")
        return f"<{self.type}{f', {size},' if size else ''} in the store>"


def within(value: Any, depth: int = 0) -> Iterator[Handle]:
    """Every handle in a value: itself, or in its lists, tuples and dicts."""
    if isinstance(value, Handle):
        yield value
    elif depth < _DEPTH_MAX:
        if type(value) is dict:
            for item in value.values():
                yield from within(item, depth + 1)
        elif type(value) in (list, tuple):
            for item in value:
                yield from within(item, depth + 1)


def of_record(record: Mapping[str, Any], where: Mapping[str, Any], owner: Mapping[str, Any], *, preview: bool) -> Any:
    """
    What a task returns whose result stays in the cluster: a handle, or a dict or list of handles and small values.

    :param record: what the driver has reported: ``result``, ``python`` and ``libraries``.
    :param where: ``conn`` and ``session`` of the cluster.
    :param owner: the task instance.
    :param preview: whether rows describe their values.
    """
    common = {**where, "python": record.get("python"), "libraries": record.get("libraries") or {}}
    return _value(record["result"]["value"], common, owner, preview=preview)


def _value(told: Mapping[str, Any], common: Mapping[str, Any], owner: Mapping[str, Any], *, preview: bool) -> Any:
    from airfreight import references
    from airfreight.inline import ROW_MEMBER

    parts = told.get("parts")
    if isinstance(parts, dict):
        return {name: _part(part, common, owner, preview=preview) for name, part in parts.items()}
    if isinstance(parts, list):
        return [_part(part, common, owner, preview=preview) for part in parts]
    nbytes = int(told.get("nbytes") or 0)
    row: Row = {
        ROW_MEMBER: references.VERSION_RAY,
        "type": str(told.get("type") or "a value"),
        "size": references.size_text(nbytes),
    }
    if preview and told.get("preview"):
        row["preview"] = told["preview"]
    names = ("owner", "generation", "key", "form")
    place = {name: told[name] for name in names if told.get(name) is not None}
    row |= {"nbytes": nbytes, "ray": {**common, **place}, "created": references.now_text(), "owner": dict(owner)}
    return RayValue(row)


def _part(part: Mapping[str, Any], common: Mapping[str, Any], owner: Mapping[str, Any], *, preview: bool) -> Any:
    return part["json"] if "json" in part else _value(part, common, owner, preview=preview)
