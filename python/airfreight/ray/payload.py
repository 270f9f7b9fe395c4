"""Values for the cluster, pickled into one run of bytes, and what they are made of."""

from __future__ import annotations

import copyreg
import pickle
import sys
import types
from dataclasses import dataclass, field
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

from airfreight.codec import note
from airfreight.codec.reducers import reducer_for
from airfreight.codec.refusal import UnstorableError, explain
from airfreight.codec.sink import Sink
from airfreight.ray.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where a buffer may begin, so that arrays over it are aligned.
_ALIGNMENT = 64

# What pendulum makes Airflow's dates of, which a cluster rarely has.
_PENDULUM = frozenset({"DateTime", "Date", "Time", "Duration", "Interval", "Timezone", "FixedTimezone"})


@dataclass(slots=True)
class Values:
    """
    All values of one parcel, one after the other.

    :param allow_pickle: ``False`` takes only what can be read without running code.
    """

    allow_pickle: bool = True
    parts: list[Any] = field(default_factory=list)
    nbytes: int = 0
    #: Top-level modules of the types that were met.
    modules: set[str] = field(default_factory=set)
    #: Functions and classes that values refer to by name.
    named: list[Any] = field(default_factory=list)
    #: Where among the call's inputs a handle's value is; ``None`` while there are no handles.
    number: Callable[[Handle], int] | None = None

    def add(self, value: Any, subject: str) -> dict[str, Any]:
        """
        Pickles one more value.

        :param subject: what the value is to the user, for error messages.
        :returns: where it is, for the driver.
        :raises UnstorableError: a part of it can't be pickled; nothing was added.
        """
        target = _Target()
        if not self.allow_pickle:
            return self._add_plain(target, value, subject)
        sink = Sink(target)
        pickler = _Pickler(sink) if self.number is None else _Referrer(sink, self.number)
        try:
            pickler.dump(value)
        except MemoryError:
            raise
        except Exception as error:
            raise _within(explain(value, error), subject) from error
        sink.finish()
        self.modules |= pickler.modules
        self.named += pickler.named
        is_bare = target.stream[-1][-1:] == bytes([note.STOP]) and not pickler.needs_codec
        return self._place(target, "pickle" if is_bare else "codec")

    def _add_plain(self, target: _Target, value: Any, subject: str) -> dict[str, Any]:
        from airfreight.codec import plain

        try:
            plain.encode(target, value)
        except UnstorableError as error:
            raise _within(error, subject) from error
        return self._place(target, "plain")

    def _place(self, target: _Target, form: str) -> dict[str, Any]:
        return {
            "form": form,
            "stream": self._append(b"".join(target.stream)),
            "buffers": [self._append(each) for each in target.buffers],
        }

    def _append(self, data: Any) -> list[int]:
        gap = -self.nbytes % _ALIGNMENT
        if gap:
            self.parts.append(bytes(gap))
            self.nbytes += gap
        start, length = self.nbytes, memoryview(data).nbytes
        self.parts.append(data)
        self.nbytes += length
        return [start, length]


class _Target:
    """Takes the stream and the buffers of one value."""

    def __init__(self) -> None:
        self.stream: list[bytes] = []
        self.buffers: list[Any] = []

    def write(self, data: Any, /) -> int:
        self.stream.append(bytes(data))
        return len(self.stream[-1])

    def add_buffer(self, buffer: Any, /) -> bool:
        raw = buffer.raw() if isinstance(buffer, pickle.PickleBuffer) else memoryview(buffer).cast("B")
        self.buffers.append(raw)
        return False


class _Pickler(pickle.Pickler):
    """
    A pickler that notes which libraries, functions and classes a value needs.

    A type is looked at once; functions and classes are seen each, which no table allows.
    """

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink, 5, buffer_callback=sink.add_buffer)
        self.modules: set[str] = set()
        self.named: list[Any] = []
        self.needs_codec = False
        self.dispatch_table = _Table(self)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
            self.meet(value)
        return NotImplemented

    def meet(self, named: Any) -> None:
        """Notes a function or class."""
        module = getattr(named, "__module__", None) or "builtins"
        top = module.partition(".")[0]
        if top == "airfreight":
            self.needs_codec = True
        elif top != "builtins":
            self.named.append(named)
            # Not what compiled libraries make up for themselves.
            if top not in sys.stdlib_module_names and getattr(sys.modules.get(top), "__spec__", None) is not None:
                self.modules.add(top)


class _Referrer(_Pickler):
    """A pickler for values with handles in them, which refer to what is in the cluster already."""

    def __init__(self, sink: Sink, number: Callable[[Handle], int]) -> None:
        super().__init__(sink)
        self._number = number

    def persistent_id(self, value: Any) -> Any:
        return ("airfreight", self._number(value)) if isinstance(value, Handle) else None


class _Table(dict[type, Any]):
    """A dispatch table that fills itself, as the codec's does."""

    def __init__(self, pickler: _Pickler) -> None:
        super().__init__()
        self._pickler = pickler

    def __missing__(self, cls: type) -> Any:
        if issubclass(cls, type):
            reducer: Any = attrgetter("__qualname__")
        else:
            if not _is_pendulum(cls):
                self._pickler.meet(cls)
            reducer = (
                _reducer_for(cls)
                or copyreg.dispatch_table.get(cls)
                or methodcaller("__reduce_ex__", pickle.HIGHEST_PROTOCOL)
            )
        self[cls] = reducer
        return reducer


def _reducer_for(cls: type) -> Any:
    if _is_pendulum(cls):
        return _PENDULUM_REDUCERS.get(cls.__name__)
    return reducer_for(cls)


def _is_pendulum(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "pendulum" and cls.__name__ in _PENDULUM


def _within(error: UnstorableError, subject: str) -> UnstorableError:
    hint = (error.hint or "").replace("return ", "pass ").replace("the next task", "the function")
    return UnstorableError(error.path, error.type_name, error.reason, hint or None, subject=subject)


def _reduce_moment(moment: Any) -> Any:
    """Airflow's dates as Python's own, which know their zone by name."""
    import datetime

    zone = moment.tzinfo
    name = str(getattr(zone, "name", None) or getattr(zone, "key", ""))
    plain = datetime.datetime(  # noqa: DTZ001 - it gets its zone below
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond,
        fold=moment.fold,
    )  # fmt: skip
    if zone is None:
        return plain.__reduce_ex__(5)
    if name in ("UTC", "Etc/UTC"):
        return plain.replace(tzinfo=datetime.UTC).__reduce_ex__(5)
    if "/" in name:
        from zoneinfo import ZoneInfo

        return plain.replace(tzinfo=ZoneInfo(name)).__reduce_ex__(5)
    return plain.replace(tzinfo=datetime.timezone(moment.utcoffset())).__reduce_ex__(5)


def _reduce_day(day: Any) -> Any:
    import datetime

    return datetime.date(day.year, day.month, day.day).__reduce_ex__(5)


def _reduce_time(time: Any) -> Any:
    import datetime

    return datetime.time(time.hour, time.minute, time.second, time.microsecond).__reduce_ex__(5)


def _reduce_duration(duration: Any) -> Any:
    return duration.as_timedelta().__reduce__()


def _reduce_zone(zone: Any) -> Any:
    import datetime
    from zoneinfo import ZoneInfo

    name = str(getattr(zone, "key", None) or getattr(zone, "name", ""))
    if "/" in name:
        return ZoneInfo, (name,)
    return datetime.timezone, (zone.utcoffset(None) or datetime.timedelta(0),)


_PENDULUM_REDUCERS: dict[str, Any] = {
    "DateTime": _reduce_moment,
    "Date": _reduce_day,
    "Time": _reduce_time,
    "Duration": _reduce_duration,
    "Interval": _reduce_duration,
    "Timezone": _reduce_zone,
    "FixedTimezone": _reduce_zone,
}
