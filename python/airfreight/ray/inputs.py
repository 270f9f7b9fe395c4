"""What a call takes that need not travel with it: values that its cluster has already, or gets once for all calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airfreight import references
from airfreight.errors import AirfreightError, ObjectLostError
from airfreight.ray import plane
from airfreight.ray.handle import Handle, RayValue, StoredValue, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airfreight.process import Process
    from airfreight.ray.plane import Cluster

log = logging.getLogger("airfreight.xcom")

#: More are not asked for one by one before a call; then the call itself tells which is gone.
_ASKED_MAX = 32

#: What a job that starts no runner carries itself.
_CARRIED_BYTES_MAX = 64 * 1024 * 1024


class Inputs:
    """
    The inputs of one call.

    :param there: the cluster in which it runs.
    :param owner: the owner of its run there.
    :param info: what a new owner says about itself.
    :param is_warm: whether a runner makes the call; a job doesn't start one for what it can carry.
    """

    def __init__(self, process: Process, there: Cluster, owner: str, info: Mapping[str, str], *, is_warm: bool) -> None:
        self._process = process
        self._there = there
        self._owner = owner
        self._info = info
        self._is_warm = is_warm
        #: What they are called in the cluster, in the order in which the arguments refer to them.
        self.places: list[dict[str, Any]] = []
        self._rows: list[Mapping[str, Any]] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    def take(self, arguments: Any) -> Any:
        """
        The same arguments, in which every handle that is left is one of the inputs; others have become values.

        :raises ObjectLostError: one of them is gone; the message says which task to clear.
        """
        handles = list(within(arguments))
        found: dict[tuple[Any, ...], Any] = {}
        asks = len({_key(each) for each in handles}) <= _ASKED_MAX
        for handle in handles:
            key = _key(handle)
            if key not in found:
                found[key] = self._place(handle, asks=asks)
        return _replaced(arguments, found) if handles else arguments

    def number(self, handle: Handle) -> int:
        """Where among the inputs a handle's value is."""
        return self._numbers[_key(handle)]

    def types(self) -> set[str]:
        """The top-level modules of the types of values that go there."""
        names = {str(row.get("type", "")) for row in self._rows if "ray" not in row}
        return {name.partition(".")[0] for name in names if "." in name}

    def _place(self, handle: Handle, *, asks: bool) -> Any:
        """A handle that is an input, or the value."""
        if isinstance(handle, RayValue):
            ray = handle.row["ray"]
            plane.note_use(
                self._process, ray["conn"], ray.get("dashboard"), ray["owner"], handle.row.get("owner") or {}
            )
            if self._is_there(handle, asks=asks):
                return self._add(handle, handle.place, handle)
            # Of another cluster, or of this one before it was replaced: there may be a copy.
            name = plane.fetch(self._process, handle.row, reads=False)
            stored = {member: value for member, value in handle.row.items() if member != "ray"}
            return self._give(handle, StoredValue({**stored, "id": name, "store": self._process.store.store_id}))
        assert isinstance(handle, StoredValue)
        return self._give(handle, handle)

    def _is_there(self, handle: RayValue, *, asks: bool) -> bool:
        there = self._there
        if handle.session is None or there.session is None:
            if handle.row["ray"].get("conn") != there.conn_id:
                return False
        elif handle.session != there.session:
            return False
        if not asks or not there.runner.running():
            return True
        place = handle.place
        return bool(there.runner.value(place["owner"], place["key"], place["generation"]).get("state") != "gone")

    def _give(self, handle: Handle, stored: StoredValue) -> Any:
        if not self._is_warm and stored.nbytes <= _CARRIED_BYTES_MAX and not self._there.runner.running():
            return stored.fetch()
        try:
            place = plane.send(self._process, stored, self._there, self._owner, self._info)
        except AirfreightError as error:
            if self._is_warm or stored.nbytes > _CARRIED_BYTES_MAX:
                raise
            log.info("the value travels with the job, because %s", error)
            return stored.fetch()
        return self._add(handle, place, stored)

    def _add(self, handle: Handle, place: dict[str, Any], held: Handle) -> Handle:
        self._numbers[_key(handle)] = len(self.places)
        self.places.append(place)
        self._rows.append(held.row)
        return handle


def _key(handle: Handle) -> tuple[Any, ...]:
    if isinstance(handle, RayValue):
        return tuple(handle.place.values())
    assert isinstance(handle, StoredValue)
    return (handle.name,)


def _replaced(value: Any, found: Mapping[tuple[Any, ...], Any]) -> Any:
    if isinstance(value, Handle):
        return found[_key(value)]
    if type(value) is dict:
        return {key: _replaced(item, found) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replaced(item, found) for item in value)
    return value


def lost(arguments: Any, message: str) -> ObjectLostError | None:
    """
    What to say of the argument that a call has named as lost.

    :param message: what the call says.
    """
    for handle in within(arguments):
        if isinstance(handle, RayValue) and handle.place["key"] in message:
            return ObjectLostError(
                f"{references.value_text(handle.row)} was lost in the Ray cluster of connection "
                f"`{handle.row['ray']['conn']}` before the function was called: {message}",
                references.clear_hint(handle.row.get("owner") or {}),
            )
    return None


def real(arguments: Any) -> Any:
    """The same arguments with the values themselves in place of handles."""
    handles: Iterable[Handle] = within(arguments)
    found = {_key(handle): handle for handle in handles}
    return _replaced(arguments, {key: handle.fetch() for key, handle in found.items()}) if found else arguments
