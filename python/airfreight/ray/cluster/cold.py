"""
A job's part in the values of its cluster: those that it takes are mapped, and what it returns outlives it.

A job is a process of its own, and what it puts into Ray is lost with it. So the owner of its DAG run makes the value
its own, by a copy within the cluster. Ray is loaded and joined when the first value is asked for, not before: a job
that takes and leaves none doesn't pay for it.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or not __package__.startswith("airfreight_"):
    from airfreight.ray import report
else:
    import airfreight_report as report

from . import joined, keeping, place

if TYPE_CHECKING:
    from airfreight.ray.driver import Parcel

    Record = dict[str, Any]

# Whoever is asked has nothing else to do; an actor that restarts is waited for.
_ANSWER_SECONDS = 60.0

# A large value is copied meanwhile.
_COPY_SECONDS = 600.0


class Plane:
    """
    The values of one job.

    :param manifest: its parcel's; ``inputs`` says what the values are called that it takes, ``plane`` whose its own
        are to be.
    """

    def __init__(self, manifest: Record) -> None:
        self._places: list[Record] = manifest.get("inputs", [])
        self._plane: Record | None = manifest.get("plane")
        self._inputs: keeping.Inputs | None = None
        self._staying = contextlib.ExitStack()
        #: Whether Ray was joined only when the function was over, so that nothing of the function's is under way there.
        self.came_late = False

    def input(self, number: int) -> Any:
        """
        One of the values that the job takes, over the memory in which Ray has it.

        :raises report.Refused: it is gone; the message names its key.
        """
        if self._inputs is None:
            self._join()
            self._inputs = self._taken()
        return self._inputs.get(number)

    def keep(self, value: Any, parcel: Parcel) -> Record:
        """Says what the task is told of the function's value; a large one stays in the cluster, if it can."""
        plane = self._plane
        if plane is None:
            return report.result(value, parcel.manifest["allow_pickle"])
        spec = {"inline_bytes_max": report.INLINE_BYTES_MAX, "parts": "none", **plane}
        keeper = keeping.Keeper(spec, eager=False)
        record = keeper.keep(value, parcel)
        if not keeper.values:
            return record
        try:
            self._adopt(plane, record["result"]["value"], keeper.values)
        except Exception as error:  # noqa: BLE001 - whatever it is, the value has another way
            print(
                f"airfreight: the result doesn't stay in the cluster and is sent to the task: {_brief(error)}",
                file=sys.stderr,
            )
            return report.result(value, parcel.manifest["allow_pickle"])
        return record

    def _join(self) -> None:
        import ray

        if not ray.is_initialized():
            # Not a word about it: the log is the function's.
            ray.init(logging_level=logging.WARNING)
        # The function may join, too, and must not leave before its value has.
        self._staying.enter_context(joined.joined())

    def _taken(self) -> keeping.Inputs:
        """All inputs, which are asked for at once."""
        import ray

        by_owner: dict[tuple[str, str], list[int]] = {}
        for number, each in enumerate(self._places):
            by_owner.setdefault((each["owner"], each["generation"]), []).append(number)
        asked = []
        for (name, generation), numbers in by_owner.items():
            keys = [self._places[number]["key"] for number in numbers]
            try:
                owner = ray.get_actor(name, namespace=place.NAMESPACE)
            except ValueError as error:
                raise _lost(keys[0], "its owner in the cluster is gone") from error
            asked.append((numbers, keys, owner.refs.remote(keys, generation)))
        found: dict[int, Record] = {}
        for numbers, keys, answer in asked:
            try:
                answers = ray.get(answer, timeout=_ANSWER_SECONDS)
            except ray.exceptions.RayError as error:
                raise _lost(keys[0], _brief(error)) from error
            for number, key, value in zip(numbers, keys, answers):  # noqa: B905 - not in Python 3.8
                if value is None:
                    raise _lost(key, "it was freed")
                found[number] = value
        given = []
        for number, each in enumerate(self._places):
            try:
                given += ray.get(found[number]["refs"])
            except ray.exceptions.RayError as error:
                raise _lost(each["key"], _brief(error)) from error
        return keeping.Inputs([found[number]["shape"] for number in range(len(self._places))], given)

    def _adopt(self, plane: Record, told: Record, values: list[Any]) -> None:
        """Gives the values to the owner of the run, and writes into the record what they are called there."""
        import ray

        self.came_late = not ray.is_initialized()
        self._join()
        try:
            runner = ray.get_actor(plane["runner"], namespace=place.NAMESPACE)
        except ValueError:
            raise _NoRunnerError("no runner of this Airfreight is in the cluster") from None
        ray.get(runner.owner.remote(plane["owner"], plane["info"]), timeout=_ANSWER_SECONDS)
        owner = ray.get_actor(plane["owner"], namespace=place.NAMESPACE)
        refs = [ray.put(value) for value in values]
        kept = list(_kept(told, plane["key"]))
        asked = [owner.adopt.remote(key, [ref], dict(part)) for (key, part), ref in zip(kept, refs)]  # noqa: B905
        for (_, part), adopted in zip(kept, ray.get(asked, timeout=_COPY_SECONDS)):  # noqa: B905
            _name(part, adopted)
        if told.get("parts") is not None:
            _name(told, ray.get(owner.adopt.remote(plane["key"], [], told), timeout=_ANSWER_SECONDS))


class _NoRunnerError(Exception):
    """Nobody can say to whom a value should belong."""


def _kept(told: Record, key: str) -> Any:
    """What is told of each value that was kept, in their order, after the key that it gets."""
    parts = told.get("parts")
    if parts is None:
        yield key, told
        return
    for name, part in parts.items() if isinstance(parts, dict) else enumerate(parts):
        if "json" not in part:
            yield keeping.key_of(key, str(name)), part


def _name(told: Record, adopted: Record) -> None:
    told.update({name: adopted[name] for name in ("owner", "generation", "key")})


def _lost(key: str, why: str) -> report.Refused:
    return report.Refused(f"the value {key} that the function takes is lost: {why}")


def _brief(error: BaseException) -> str:
    """Ray's own texts are pages long, and hold those of what an actor has raised."""
    raised = getattr(error, "cause", None) or error
    text = str(raised).strip().partition("\n")[0]
    return text if isinstance(raised, _NoRunnerError) else f"{type(raised).__name__}: {text}"
