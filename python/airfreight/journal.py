"""What a task's log says of the values that went through shared memory: one line each, never a value itself."""

from __future__ import annotations

import logging
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from airfreight import references

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.references import Row

#: One name for all of it, whatever module speaks, so that it can be filtered as a whole.
log = logging.getLogger("airfreight.xcom")

#: Seconds until the first line about a transfer, and between two of them.
_FIRST_PROGRESS_SECONDS = 1.0
_PROGRESS_SECONDS = 10.0


def stored(row: Row, key: str | None, began: float) -> None:
    """A value was put into the store since the time ``began`` of ``perf_counter``."""
    log.info("stored %s: %s, %s, in %.2f ms", key, row["type"], row["size"], _milliseconds_since(began))


def left(row: Row, key: str | None) -> None:
    """A value stays in a Ray cluster."""
    log.info("left %s in Ray: %s, %s", key, row["type"], row["size"])


def fetched(row: Row, how: str, began: float) -> None:
    """A value came from a Ray cluster since the time ``began`` of ``perf_counter``."""
    owner = row.get("owner") or {}
    log.info(
        "read %s of %s %s: %s, %s, in %.1f ms",
        owner.get("key", "return_value"),
        owner.get("task_id"),
        how,
        row["type"],
        row["size"],
        _milliseconds_since(began),
    )


def read(row: Row, began: float, element: int | None = None) -> None:
    """A value, or one element of it, was read from the store since the time ``began`` of ``perf_counter``."""
    owner = row.get("owner") or {}
    what = owner.get("key") if element is None else f"{owner.get('key')}[{element}]"
    size = row["size"] if element is None else f"one of {row['elements']} elements"
    log.info(
        "read %s of %s: %s, %s, in %.2f ms", what, owner.get("task_id"), row["type"], size, _milliseconds_since(began)
    )


def progress(done: str, where: str) -> Callable[[int, int], None]:
    """Makes what is told now and then how many bytes of how many are done, and says so; short transfers say nothing."""
    began = monotonic()
    said = began + _FIRST_PROGRESS_SECONDS - _PROGRESS_SECONDS

    def tell(nbytes: int, total: int) -> None:
        nonlocal said
        now = monotonic()
        if now - said < _PROGRESS_SECONDS:
            return
        said = now
        log.info(
            "%s %s of %s %s so far, %s a second",
            done,
            references.size_text(nbytes),
            references.size_text(total),
            where,
            references.size_text(round(nbytes / (now - began))),
        )

    return tell


def _milliseconds_since(began: float) -> float:
    return (perf_counter() - began) * 1e3
