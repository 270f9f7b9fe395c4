"""
One call in a worker process of Ray's: its log, its function, its value.

The owner submits :func:`call` as a Ray task, so what it returns is the owner's. It returns what the task is to know,
as JSON, and the value; it never raises, so whatever raises is Ray's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING or not __package__.startswith("airfreight_"):
    from airfreight.ray import driver, report
else:
    import airfreight_driver as driver
    import airfreight_report as report

from . import crash, joined, keeping, notify, packed, place
from .calllog import CallLog
from .interruption import Interruption, interruptible
from .visit import Archives, visit

if TYPE_CHECKING:
    Record = dict[str, Any]


def call(spec: bytes, *given: Any) -> tuple[bytes, Any]:
    """
    Runs a call.

    :param spec: what is to be done, as JSON of the owner's.
    :param given: the parcel's packages, then the inputs.
    :returns: what became of it, and the value that stays in the cluster, if one does.
    """
    told, values = _run(json.loads(spec), given, eager=False)
    return told, values[0] if values else None


def call_in_parts(spec: bytes, *given: Any) -> Iterator[Any]:
    """Runs a call whose value may be several; they come first."""
    told, values = _run(json.loads(spec), given, eager=False)
    for value in [*values, told]:
        # Ray talks to the generator itself.
        yield value


class Eager:
    """An actor that runs one call and then keeps alive what its value refers to."""

    def __init__(self) -> None:
        #: Ray doesn't always count the references in what a generator has yielded.
        self._kept: list[Any] = []

    def where(self) -> tuple[str, int]:
        """The node and the process, for who wants to interrupt it."""
        return place.node_id(), os.getpid()

    def call(self, spec: bytes, *given: Any) -> tuple[bytes, Any]:
        """As :func:`call`."""
        told, values = self._run(spec, given)
        return told, values[0] if values else None

    def call_in_parts(self, spec: bytes, *given: Any) -> Iterator[Any]:
        """As :func:`call_in_parts`."""
        told, values = self._run(spec, given)
        for value in [*values, told]:
            yield value

    def _run(self, spec: bytes, given: Any) -> tuple[bytes, list[Any]]:
        told, values = _run(json.loads(spec), given, eager=True)
        self._kept = [value for value in values if isinstance(value, packed.Native)]
        return told, values


def interrupt(pid: int) -> None:
    """Interrupts the function in an :class:`Eager` actor of this node."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)


def nothing(seconds: float) -> None:
    """Occupies a process, so that Ray has one more when it is over, with all of this imported."""
    time.sleep(seconds)


def _run(spec: Record, given: Any, eager: bool) -> tuple[bytes, list[Any]]:
    start = time.time()
    crashed = None if eager else crash.before(spec["id"])
    if crashed is not None:
        return _json({"crashed": crashed, "node_id": crashed["node_id"], **_tail(spec["id"], crashed)}), []
    packages, inputs = given[: spec["packages"]], keeping.Inputs(spec["shapes"], given[spec["packages"] :])
    keeper = keeping.Keeper(spec, eager)
    with crash.mark(spec["id"]), notify.started(spec, start), CallLog(spec["id"]) as log:
        with interruptible() as interruption:
            record = _called(spec, packages, inputs, keeper, interruption)
            inputs.forget()
        log.write(report.readable(record))
    if "result" not in record:
        keeper.values.clear()
    told = {
        "record": record,
        "node_id": place.node_id(),
        "start_time": int(start * 1000),
        "end_time": int(time.time() * 1000),
        "interrupted": interruption.happened,
        "log_bytes": log.nbytes,
        "tail": log.tail,
    }
    return _json(told), keeper.values


def _called(spec: Record, packages: Any, inputs: Any, keeper: keeping.Keeper, interruption: Interruption) -> Record:
    try:
        with visit(Archives(spec["parcel"], list(packages))) as parcel:
            parcel.input = inputs.get
            with joined.joined(), interruption.allowed():
                return driver.run(parcel, keeper.keep)
    except report.Refused as error:
        return report.refusal(error)
    except BaseException as error:  # noqa: BLE001 - a parcel that can't be opened, an interruption at the last moment
        return {"v": 1, "error": report.describe(error), "module": ""}


def _tail(call_id: str, crashed: Record) -> Record:
    """What there is of the log of a call whose process is gone."""
    if crashed["node_id"] != place.node_id():
        return {}
    return CallLog.read(call_id)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
