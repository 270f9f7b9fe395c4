"""What was to be reached, beside what was measured in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Values whose bytes travel beside the pickle, so that neither process holds a copy.
_OUT_OF_BAND = ("array_100mb", "array_1gb", "frame_numeric", "frame_dates", "frame_strings")
_MEMCPY = "memcpy_warm"
#: Every first touch of its parent's memory costs a forked process a copied page.
_NEW_KINDS = {"new interpreter": "interpreter", "forked process": "new"}
_KINDS = _NEW_KINDS | {"warm process": "warm"}
TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Figure:
    """
    One promise.

    :param target: the limit, as a number in ``unit``.
    :param is_most: the measured value may be the target at most; otherwise at least.
    :param measured: ``None`` when something it needs wasn't measured.
    """

    name: str
    unit: str
    target: float
    is_most: bool
    measured: float | None

    @property
    def is_met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured <= self.target if self.is_most else self.measured >= self.target


def compute(measured: dict[str, Any]) -> list[Figure]:
    return [
        *_array(measured),
        *_frames(measured),
        *_small(measured),
        *_memory(measured),
        Figure("`import airfreight.xcom` after Airflow", "ms", 30, True, _import(measured)),
    ]


def _array(measured: dict[str, Any]) -> Iterator[Figure]:
    case = "array_100mb"
    put = "100 MB array, new process, connect and put"
    warm = _seconds(measured, case, "new", "airfreight", "connect_put")
    new = _seconds(measured, case, "new", "airfreight_empty_pool", "connect_put")
    memcpy = _seconds(measured, case, "new", _MEMCPY, "put")
    yield Figure(f"{put} ÷ warm memcpy, warm segment", TIMES, 1.8, True, _ratio(warm, memcpy))
    yield Figure(f"{put} ÷ warm memcpy, new store", TIMES, 3.5, True, _ratio(new, memcpy))
    for kind, processes in _NEW_KINDS.items():
        loaded = f"100 MB array, {kind}, the client's import, connect and put"
        for peer, label, target_warm, target_new in (("vineyard", "vineyard", 4, 2.5), ("ray", "Ray", 25, 17)):
            # A brand-new process has none of them imported.
            theirs = _seconds(measured, case, processes, peer, "load_connect_put")
            for ours, segment, target in (
                ("airfreight", "warm segment", target_warm),
                ("airfreight_empty_pool", "new store", target_new),
            ):
                taken = _seconds(measured, case, processes, ours, "load_connect_put")
                name = f"{loaded}: times faster than {label}, {segment}"
                yield Figure(name, TIMES, target, False, _ratio(theirs, taken))
    opening = _seconds(measured, case, "new", "airfreight", "connect")
    yield Figure("opening the store, new process", "ms", 1, True, _milliseconds(opening))
    for case, label in (("array_100mb", "100 MB"), ("array_1gb", "1 GB")):
        for kind, processes in _KINDS.items():
            get = _seconds(measured, case, processes, "airfreight", "get")
            yield Figure(f"get to a usable array, {label}, {kind}", "ms", 0.15, True, _milliseconds(get))
    warm = _seconds(measured, "array_1gb", "new", "airfreight", "put")
    memcpy = _seconds(measured, "array_1gb", "new", _MEMCPY, "put")
    name = "1 GB array, new process, put with two threads ÷ warm memcpy, warm segment"
    yield Figure(name, TIMES, 1.2, True, _ratio(warm, memcpy))


def _frames(measured: dict[str, Any]) -> Iterator[Figure]:
    for case, label in (
        ("frame_numeric", "numbers"),
        ("frame_dates", "dates"),
        ("frame_strings", "pandas strings"),
    ):
        memcpy = _seconds(measured, case, "new", _MEMCPY, "put")
        for peer, segment, target in (("airfreight", "warm segment", 2), ("airfreight_empty_pool", "new store", 3.5)):
            put = _seconds(measured, case, "new", peer, "put")
            name = f"100 MB frame of {label}, new process, put ÷ warm memcpy, {segment}"
            yield Figure(name, TIMES, target, True, _ratio(put, memcpy))
        for kind, processes in _KINDS.items():
            get = _seconds(measured, case, processes, "airfreight", "get")
            yield Figure(f"100 MB frame of {label}, get, {kind}", "ms", 0.5, True, _milliseconds(get))
    for processes in ("new", "warm"):
        for step in ("put", "get"):
            ours = _seconds(measured, "frame_objects", processes, "airfreight", step)
            theirs = _seconds(measured, "frame_objects", processes, "vineyard", step)
            name = f"100 MB frame of object strings, {processes} process, {step} ÷ vineyard's"
            yield Figure(name, TIMES, 1, True, _ratio(ours, theirs))


def _small(measured: dict[str, Any]) -> Iterator[Figure]:
    for step, target in (("put", 10), ("get", 8)):
        seconds = _median(measured["hot_loop"].get("airfreight_store"), step)
        name = f"1 KB object, hot loop through the store's API, {step}"
        yield Figure(name, "µs", target, True, None if seconds is None else seconds * 1e6)


def _memory(measured: dict[str, Any]) -> Iterator[Figure]:
    for case in _OUT_OF_BAND:
        found = measured["cases"].get(case)
        if not found:
            continue
        for peer, key, what, unit, target in (
            ("airfreight", "put_private_bytes_max", "private memory while putting", "%", 5),
            ("airfreight", "get_private_bytes_max", "private memory while getting", "%", 5),
            # With a warm segment a store doesn't grow at all.
            ("airfreight_empty_pool", "store_bytes", "growth of the store", TIMES, 1.05),
        ):
            share = _ratio(found["memory"].get(peer, {}).get(key), found["nbytes"])
            if share is not None and unit == "%":
                share *= 100
            yield Figure(f"{found['label']}: {what} ÷ the value", unit, target, True, share)


def _import(measured: dict[str, Any]) -> float | None:
    return _milliseconds(measured["imports"].get("airfreight.xcom", {}).get("median"))


def _seconds(measured: dict[str, Any], case: str, processes: str, peer: str, step: str) -> float | None:
    return _median(measured["cases"].get(case, {}).get(processes, {}).get(peer), step)


def _median(series: dict[str, Any] | None, step: str) -> float | None:
    values = (series or {}).get("times", {}).get(step)
    return median(values) if values else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
