"""What becomes of a function's value: told at once when it is short, else kept in the cluster."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING or not __package__.startswith("airfreight_"):
    from airfreight.ray import report
else:
    import airfreight_report as report

from . import classes, objectfile
from .packed import Native, Packed

if TYPE_CHECKING:
    from airfreight.ray.driver import Parcel

    Record = dict[str, Any]

#: A container of more elements is kept as one value.
PARTS_MAX = 1000

# Libraries whose values are handles of what is elsewhere in the cluster.
_NATIVE = ("ray", "modin")


def key_of(call_id: str, part: Any) -> str:
    """What a part of a call's value is called: the call, and the key in the dict or the place in the list."""
    return f"{call_id}/{quote(str(part), safe='')}"


def shape_of(parts: Any) -> Record:
    """How the parts of a value, as they are told of, make up the whole."""
    is_dict = isinstance(parts, dict)
    named = parts.items() if is_dict else enumerate(parts)
    return {
        "kind": "dict" if is_dict else "list",
        "parts": [(name, part if "json" in part else {}) for name, part in named],
    }


class Inputs:
    """
    The values that a call takes of the cluster, decoded when the arguments ask for them.

    :param shapes: for each input ``None``, or how its parts make up the whole: see :meth:`_joined`.
    :param given: what Ray has handed over: the values, and of those in parts each part.
    """

    def __init__(self, shapes: list[Any], given: Any) -> None:
        self._shapes = shapes
        self._given = list(given)
        self._starts = []
        start = 0
        for shape in shapes:
            self._starts.append(start)
            start += 1 if shape is None else sum("json" not in part for _, part in shape["parts"])
        self._values: dict[int, Any] = {}

    def get(self, number: int) -> Any:
        """The same object each time, as at home."""
        if number not in self._values:
            shape, start = self._shapes[number], self._starts[number]
            self._values[number] = self._given[start].value() if shape is None else self._joined(shape, start)
        return self._values[number]

    def forget(self) -> None:
        """
        Lets go of all values after the call.

        Who has decoded the arguments may be garbage that Python hasn't collected, and would hold them in Ray's store
        for as long as this process waits for its next call.
        """
        self._given.clear()
        self._values.clear()

    def _joined(self, shape: Record, start: int) -> Any:
        """A list or dict of its parts, which are JSON or the next of the values."""
        left = iter(self._given[start:])
        parts = [(name, part["json"] if "json" in part else next(left).value()) for name, part in shape["parts"]]
        return dict(parts) if shape["kind"] == "dict" else [part for _, part in parts]


class Keeper:
    """
    Decides on a value and holds it until it is returned.

    :param spec: the call's.
    :param eager: whether the process that holds it outlives the call.
    """

    def __init__(self, spec: Record, eager: bool) -> None:
        self._spec = spec
        self._eager = eager
        #: What is to be returned to the owner.
        self.values: list[Any] = []

    def keep(self, value: Any, parcel: Parcel) -> Record:
        """Says what the task is told of a value."""
        bytes_max = self._spec["inline_bytes_max"]
        if report.is_plain(value, bytes_max):
            return {"v": 1, "result": {"json": value}, **report.versions(())}
        parts = self._split(value)
        libraries: tuple[str, ...]
        if parts is None:
            short, told, libraries = self._one(value, parcel, bytes_max)
            return {"v": 1, "result": short or {"value": told}, **report.versions(libraries)}
        return self._in_parts(value, parts, parcel, bytes_max)

    def _in_parts(self, value: Any, parts: Any, parcel: Parcel, bytes_max: int) -> Record:
        met: set[str] = set()
        told = []
        for part in parts.values() if isinstance(parts, dict) else parts:
            if report.is_plain(part, bytes_max):
                told.append({"json": part})
                continue
            _, kept, libraries = self._one(part, parcel, 0)
            met.update(libraries)
            told.append(kept)
        is_dict = isinstance(parts, dict)
        whole: Record = {
            "nbytes": sum(each.get("nbytes", 0) for each in told),
            **_described(value),
            "form": "parts",
            "parts": dict(zip(parts, told)) if is_dict else told,  # noqa: B905 - not in Python 3.8
        }
        return {"v": 1, "result": {"value": whole}, **report.versions(tuple(sorted(met)))}

    def _split(self, value: Any) -> Any:
        """The parts of a value that are to be kept one by one."""
        wish = self._spec["parts"]
        if type(value) is dict and wish in ("dict", "auto") and all(type(key) is str for key in value):
            return value if 0 < len(value) <= PARTS_MAX else None
        if type(value) is list and wish in ("list", "auto"):
            return value if 0 < len(value) <= PARTS_MAX else None
        return None

    def _one(self, value: Any, parcel: Parcel, bytes_max: int) -> tuple[Record | None, Record, tuple[str, ...]]:
        """Keeps one value, unless it is short enough to be told."""
        allow_pickle = parcel.manifest["allow_pickle"]
        try:
            parts = report.encode(value, allow_pickle, _refuse_native)
        except report.Refused:
            # A part of it is a handle.
            if not self._eager:
                raise
            facts = {**_described(value), "created": time.time_ns()}
            self.values.append(Native(value, facts))
            return None, {"nbytes": 0, **_described(value), "form": "native"}, ("ray",)
        short = report.inline(parts, bytes_max)
        if short is not None:
            return short, {}, parts.libraries()
        described = _described(value)
        codec = "pickle5" if allow_pickle else "plain"
        facts = {**described, "codec": codec, "created": time.time_ns()}
        packed = Packed.of(parts, facts)
        packed.classes = classes.take_along(parts.types, parcel.manifest["modules"])
        self.values.append(packed)
        told = {"nbytes": packed.nbytes, "file_bytes": objectfile.file_bytes(packed), **described, "form": "packed"}
        return None, told, parts.libraries()


def _refuse_native(cls: type) -> Any:
    """A reducer that ends the pickling, for types that stand for something elsewhere in the cluster."""
    if cls.__module__.partition(".")[0] in _NATIVE:

        def refuse(value: Any) -> Any:
            raise report.Refused(
                f"the function's result holds a {type(value).__module__}.{type(value).__qualname__}, and what that "
                "refers to is lost with the process that made it",
                "mark the task with eager=True, which keeps it as long as the result; or return the data itself, such "
                "as ray.get(…)",
            )

        return refuse
    return None


def _described(value: Any) -> Record:
    try:
        from airfreight.codec.preview import describe
    except (ImportError, SyntaxError, TypeError):
        return {"type": f"{type(value).__module__}.{type(value).__qualname__}", "preview": {}}
    name, preview = describe(value)
    return {"type": name, "preview": preview}
