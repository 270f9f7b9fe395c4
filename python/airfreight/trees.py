"""
Lists, tuples and dicts that hold values of a Ray cluster, as one XCom row.

The row has the shape of the container under ``tree``, and what is in it, as rows of their own, under ``rows``. The
signature is over the whole. A node of the tree is a JSON object with one member:

- ``json``: a value that JSON says exactly.
- ``row``: the place of its row in ``rows``.
- ``list``, ``tuple``: the nodes of its elements.
- ``dict``: pairs of a key and a node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airfreight.codec import UnstorableError
from airfreight.expanding import StoredSequence
from airfreight.inline import ROW_MEMBER, is_inline
from airfreight.ray.handle import RayValue, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.references import Row

#: What values that JSON can say may take in the row, each.
_JSON_BYTES_MAX = 4096

#: A row is read whole by everybody who wants a part of it.
_ROWS_MAX = 10_000

_KEYS = (str, int, bool, type(None))


def holds_ray_values(value: Any) -> bool:
    """Whether a value is a container with a Ray value in it; other containers stay what they are."""
    return type(value) in (list, tuple, dict) and any(isinstance(each, RayValue) for each in within(value))


def write(value: Any, encode: Callable[[Any], Row]) -> Row:
    """
    An unsigned row for such a container.

    :param encode: makes an unsigned row of a value in it.
    """
    from airfreight import references

    writer = _Writer(encode)
    tree = writer.node(value)
    if len(writer.rows) > _ROWS_MAX:
        raise UnstorableError(
            "",
            type(value).__qualname__,
            f"it holds {len(writer.rows)} values on Ray, and at most {_ROWS_MAX} can be passed on together",
            "return fewer, larger values",
        )
    nbytes = sum(int(row.get("nbytes") or 0) for row in writer.rows)
    row: Row = {
        ROW_MEMBER: references.VERSION_RAY,
        "type": type(value).__name__,
        "size": references.size_text(nbytes),
        "preview": {"length": len(value)},
        "nbytes": nbytes,
    }
    if isinstance(value, list | tuple):
        row["elements"] = len(value)
    return row | {"tree": tree, "rows": writer.rows}


def read(row: Row, load: Callable[[Row], Any]) -> Any:
    """
    The container that such a row stands for.

    :param load: makes a value of a row in it.
    """
    return _value(row["tree"], row["rows"], load)


def expand(row: Row, load: Callable[[Row], Any]) -> StoredSequence:
    """The list or tuple of such a row, of which each element is read when it is asked for."""
    tree, rows = row["tree"], row["rows"]
    nodes = tree.get("list", tree.get("tuple"))
    return StoredSequence(len(nodes), lambda index: _value(nodes[index], rows, load))


class _Writer:
    def __init__(self, encode: Callable[[Any], Row]) -> None:
        self._encode = encode
        self.rows: list[Row] = []
        #: Where the row of a handle is, which may be in the container more than once.
        self._places: dict[int, int] = {}

    def node(self, value: Any) -> dict[str, Any]:
        cls = type(value)
        if cls is dict and holds_ray_values(value):
            return {"dict": [[self._key(key), self.node(item)] for key, item in value.items()]}
        if cls in (list, tuple) and holds_ray_values(value):
            return {cls.__name__: [self.node(item) for item in value]}
        if not isinstance(value, RayValue) and is_inline(value, _JSON_BYTES_MAX):
            return {"json": value}
        place = self._places.get(id(value))
        if place is None:
            place = self._places[id(value)] = len(self.rows)
            self.rows.append(self._encode(value))
        return {"row": place}

    def _key(self, key: Any) -> Any:
        if type(key) in _KEYS:
            return key
        raise UnstorableError(
            "",
            type(key).__qualname__,
            "it is a key of a dict with values on Ray, whose keys can only be texts and whole numbers",
            "return a dict with such keys, or a list of pairs",
        )


def _value(node: dict[str, Any], rows: list[Row], load: Callable[[Row], Any]) -> Any:
    if "row" in node:
        return load(rows[node["row"]])
    if "list" in node:
        return [_value(item, rows, load) for item in node["list"]]
    if "tuple" in node:
        return tuple(_value(item, rows, load) for item in node["tuple"])
    if "dict" in node:
        return {key: _value(item, rows, load) for key, item in node["dict"]}
    return node["json"]
