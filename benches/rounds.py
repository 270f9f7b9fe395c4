"""The measurements: every peer takes its turn in every round, and starts first in another one each time."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benches.peers.base import Peer
from benches.tasks import Answer, StepError, Task, Worker

if TYPE_CHECKING:
    from benches.values import Case

Say = Callable[[str], None]

#: What takes longer is done once in each turn of a warm process: it varies little.
_SLOW_SECONDS = 0.5
#: How many values a store has held before, unless that takes longer than so many seconds.
USES, USE_SECONDS = 64, 5.0
#: So much of a value's size is ready in free memory before it is put.
_READY_SHARE = 1.25


@dataclass
class Series:
    """What one peer needed for one value, in seconds, round by round."""

    times: dict[str, list[float]] = field(default_factory=dict)
    error: str | None = None
    #: What came back that isn't what was put.
    changed: str | None = None
    #: How many such values the store had held before.
    used_before: int = 0

    def add(self, **seconds: float) -> None:
        for name, value in seconds.items():
            self.times.setdefault(name, []).append(value)

    def median(self, name: str) -> float | None:
        return median(self.times[name]) if self.times.get(name) else None


def in_new_processes(
    workers: list[Worker], case: Case, rounds: int, say: Say, *, is_new_interpreter: bool = False
) -> dict[str, Series]:
    """
    One process puts, another gets, both made for it; connecting is part of the time, importing the client apart.

    Stores that keep memory for the next value have been in use before, each for the same number of values of that kind,
    unless they take too long. The first turn of each peer isn't counted: it checks what arrives against what was sent.

    :param is_new_interpreter: a process that was started rather than forked, whose memory is therefore all its own.
    """
    series = {worker.name: Series() for worker in workers if worker.peer.applies(case)}
    if not is_new_interpreter:
        for worker in workers:
            if worker.peer.keeps_memory and worker.peer.applies(case):
                say(f"{case.label}, in use before: {worker.peer.label}")
                _use(worker, case, series[worker.name])
    for number, worker in _turns(workers, case, rounds + 1):
        found = series[worker.name]
        if found.error:
            continue
        what = "interpreters" if is_new_interpreter else "processes"
        say(f"{case.label}, new {what}, round {number} of {rounds}: {worker.peer.label}")
        with _place(worker, number) as place:
            try:
                make = partial(worker.task, place, is_new_interpreter=is_new_interpreter)
                _new_process_turn(worker.peer, make, case, found, is_counted=number > 0)
            except StepError as error:
                found.error = str(error)
    return series


def _use(worker: Worker, case: Case, series: Series) -> None:
    try:
        with worker.task() as task:
            task.run(["make", case.kind, case.nbytes])
            task.run(["ready_memory", int(_READY_SHARE * case.nbytes)])
            task.run("load", "connect")
            series.used_before = task.run(["use", USES, USE_SECONDS]).results["use"]
            task.run("drop", "close")
    except StepError as error:
        series.error = str(error)


def _new_process_turn(
    peer: type[Peer], make: Callable[[], AbstractContextManager[Task]], case: Case, series: Series, *, is_counted: bool
) -> None:
    with make() as putter:
        putter.run(["make", case.kind, case.nbytes])
        if peer.finds_memory_ready:
            putter.run(["ready_memory", int(_READY_SHARE * case.nbytes)])
        put = _named("put", lambda: putter.run("load", "connect", "put"))
        if peer.is_limit and peer.is_repeatable and is_counted:
            # What everything else is held against should not hang on one copy.
            series.add(put=putter.run("put").seconds["put"])
            series.add(put=putter.run("put").seconds["put"])
        got = None
        if not peer.is_limit:
            with make() as getter:
                got = _named("get", lambda: getter.run("load", "connect", "get", "touch", handle=put.handle))
                if not is_counted:
                    series.changed = getter.run(["difference", case.kind, case.nbytes]).results["difference"]
                getter.run("drop", "close")
        putter.run("delete", "drop", "close")
    if not is_counted:
        return
    series.add(
        load=put.seconds["load"],
        connect=put.seconds["connect"],
        put=put.seconds["put"],
        connect_put=put.seconds["connect"] + put.seconds["put"],
        load_connect_put=put.total,
    )
    if got is not None:
        connect, get = got.seconds["connect"], got.seconds["get"]
        series.add(
            get=get,
            connect_get=connect + get,
            connect_get_touch=connect + get + got.seconds["touch"],
            load_connect_get=got.seconds["load"] + connect + get,
        )


def in_warm_processes(workers: list[Worker], case: Case, rounds: int, say: Say) -> dict[str, Series]:
    """One process puts, another gets, again and again, connected all the while."""
    repeatable = [worker for worker in workers if worker.peer.is_repeatable]
    series = {worker.name: Series() for worker in repeatable if worker.peer.applies(case)}
    # More of the small ones, which are noisier and cost nothing.
    repeats = 3 if case.is_large or rounds == 1 else 20
    with contextlib.ExitStack() as stack:
        pairs: dict[str, tuple[Task, Task]] = {}
        for worker in repeatable:
            if worker.peer.applies(case):
                pairs[worker.name] = stack.enter_context(worker.task()), stack.enter_context(worker.task())
        for number, worker in _turns(repeatable, case, rounds + 1):
            found = series[worker.name]
            if found.error:
                continue
            say(f"{case.label}, warm processes, round {number} of {rounds}: {worker.peer.label}")
            turn = _warm_limit_turn if worker.peer.is_limit else _warm_turn
            try:
                turn(*pairs[worker.name], case, found, repeats if number else 1, is_counted=number > 0)
            except StepError as error:
                found.error = str(error)
    return series


def _warm_turn(putter: Task, getter: Task, case: Case, series: Series, repeats: int, *, is_counted: bool) -> None:
    if not is_counted:
        putter.run("load", "connect")
        getter.run("load", "connect")
    # Made anew for each turn: a gigabyte for every peer at once would not fit.
    putter.run(["make", case.kind, case.nbytes])
    for _ in range(repeats):
        put = _named("put", lambda: putter.run("put"))
        handle = put.handle
        got = _named("get", lambda handle=handle: getter.run("get", "touch", handle=handle))  # type: ignore[misc]
        getter.run("drop_got")
        putter.run("delete")
        if is_counted:
            get, touch = got.seconds["get"], got.seconds["touch"]
            series.add(put=put.seconds["put"], get=get, get_touch=get + touch)
        if put.total + got.total > _SLOW_SECONDS:
            break
    putter.run("drop")


def _warm_limit_turn(putter: Task, _: Task, case: Case, series: Series, repeats: int, *, is_counted: bool) -> None:
    putter.run(["make", case.kind, case.nbytes])
    for _number in range(repeats):
        put = putter.run("put")
        if is_counted:
            series.add(put=put.seconds["put"])
    putter.run("delete", "drop")


def memory(workers: list[Worker], case: Case, say: Say) -> dict[str, dict[str, Any]]:
    """
    The most private memory that each process needed beyond what it had, and what the store grew by.

    Not timed, because watching costs the second core. The value itself is there before the put begins.
    """
    found: dict[str, dict[str, Any]] = {}
    for worker in workers:
        if worker.peer.is_limit or not worker.peer.applies(case):
            continue
        say(f"{case.label}, memory: {worker.peer.label}")
        try:
            with _place(worker, 0) as place, worker.task(place) as putter:
                found[worker.name] = _memory_turn(worker, place, putter, case)
        except StepError as error:
            found[worker.name] = {"error": str(error)}
    return found


def _memory_turn(worker: Worker, place: str, putter: Task, case: Case) -> dict[str, Any]:
    putter.run(["make", case.kind, case.nbytes])
    putter.run("load", "connect")
    store_before = putter.run("used_bytes").results["used_bytes"]
    put, put_peak, put_kept = _watched(putter, "put")
    store_after = putter.run("used_bytes").results["used_bytes"]
    with worker.task(place) as getter:
        getter.run("load", "connect", handle=put.handle)
        _, get_peak, get_kept = _watched(getter, "get")
        getter.run("drop", "close")
    putter.run("delete", "drop", "close")
    grown = None if store_before is None else store_after - store_before
    return {
        "put_private_bytes_max": put_peak,
        "put_private_bytes_kept": put_kept,
        "get_private_bytes_max": get_peak,
        "get_private_bytes_kept": get_kept,
        "store_bytes": grown,
    }


def _watched(task: Task, step: str) -> tuple[Answer, int, int]:
    before = task.run("private_bytes").results["private_bytes"]
    answer = task.run(step, watch=True)
    after = task.run("private_bytes").results["private_bytes"]
    return answer, max(0, answer.private_bytes_max - before, after - before), after - before


def hot_loop(workers: Iterable[Worker], case: Case, rounds: int, count: int, say: Say) -> dict[str, Series]:
    """A small value put and got as fast as it goes, in one process each."""
    stores = [worker for worker in workers if worker.peer.is_repeatable and not worker.peer.is_limit]
    series = {worker.name: Series() for worker in stores if worker.peer.applies(case)}
    for number, worker in _turns(stores, case, rounds + 1):
        found = series[worker.name]
        say(f"{case.label}, hot loop, round {number} of {rounds}: {worker.peer.label}")
        try:
            with worker.task() as putter, worker.task() as getter:
                putter.run(["make", case.kind, case.nbytes], "load", "connect")
                getter.run("load", "connect")
                put = putter.run(["hot_put", count]).results["hot_put"]
                got = getter.run(["hot_get", put["handles"]]).results["hot_get"]
                putter.run(["hot_delete", put["handles"]], "close")
                getter.run("close")
            if number:
                found.add(put=median(put["nanoseconds"]) / 1e9, get=median(got["nanoseconds"]) / 1e9)
        except StepError as error:
            found.error = str(error)
    return series


def _turns(workers: list[Worker], case: Case, rounds: int) -> Iterator[tuple[int, Worker]]:
    """Round by round, in an order that moves on by one place each time."""
    taking_part = [worker for worker in workers if worker.peer.applies(case)]
    for number in range(rounds):
        first = number % max(1, len(taking_part))
        for worker in taking_part[first:] + taking_part[:first]:
            yield number, worker


@contextlib.contextmanager
def _place(worker: Worker, number: int) -> Iterator[str]:
    if not worker.peer.is_new_each_round:
        yield worker.place
        return
    place = Path(worker.place) / f"round-{number}"
    place.mkdir()
    try:
        yield str(place)
    finally:
        shutil.rmtree(place)


def _named(step: str, run: Callable[[], Answer]) -> Answer:
    """Says in the error whether it was the put or the get that failed."""
    try:
        return run()
    except StepError as error:
        raise StepError(f"{step}: {error}") from error
