"""
Tells the owner of a call that the call runs, and where, unless it is over before anybody could want to know.

Most functions of a warm task are. For these, a message would cost more than the function.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Iterator

from . import place

if TYPE_CHECKING:
    Record = dict[str, Any]

_PATIENCE_SECONDS = 0.03

_owners: dict[str, Any] = {}


class _Notifier:
    """A thread of this process that looks whether a call still runs."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._running: tuple[Record, float] | None = None
        threading.Thread(target=self._work, name="airfreight-notify", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return self._pid == os.getpid()

    def begin(self, spec: Record, start: float) -> None:
        with self._changed:
            self._running = spec, start
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._running = None

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._running is None:
                    self._changed.wait()
                running = self._running
            time.sleep(_PATIENCE_SECONDS)
            with self._changed:
                if self._running is not running:
                    continue
                self._running = None
            with contextlib.suppress(Exception):
                _tell(*running)


_notifier: _Notifier | None = None


@contextlib.contextmanager
def started(spec: Record, start: float) -> Iterator[None]:
    """Lets the owner know of a call that takes its time."""
    global _notifier  # noqa: PLW0603 - one for the process
    if _notifier is None or not _notifier.is_alive:
        _notifier = _Notifier()
    _notifier.begin(spec, start)
    try:
        yield
    finally:
        _notifier.end()


def _tell(spec: Record, start: float) -> None:
    import ray

    name = spec["owner"]
    if name not in _owners:
        _owners.clear()
        _owners[name] = ray.get_actor(name, namespace=place.NAMESPACE)
    try:
        _owners[name].started.remote(spec["id"], spec["submitted"], place.node_id(), os.getpid(), int(start * 1000))
    except Exception:
        _owners.clear()
        raise
