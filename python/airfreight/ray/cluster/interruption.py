"""
How a call is interrupted: a KeyboardInterrupt in the function, and nowhere else.

Ray interrupts a task by making Python believe that a signal had come. A function that waits for the operating system,
in a sleep or for a socket, wouldn't notice before that has answered. But Python also writes the number of such a signal
to a descriptor, and a thread of ours that reads it then sends the signal in earnest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Iterator


class Interruption:
    """Whether a call was interrupted, and whether its function may be."""

    def __init__(self) -> None:
        self.happened = False
        self._function_runs = False

    def handle(self, _number: int, _frame: Any) -> None:
        first, self.happened = not self.happened, True
        # Once: the signal comes a second time, in earnest. What surrounds the function must put the process in order.
        if first and self._function_runs:
            raise KeyboardInterrupt("the task was cancelled")

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        self._function_runs = True
        try:
            yield
        finally:
            self._function_runs = False


class _Waker:
    """A thread that turns a pretended signal into one that ends a wait."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        reading, self.writing = os.pipe()
        os.set_blocking(self.writing, False)
        self._main = threading.main_thread().ident or 0
        threading.Thread(target=self._work, args=(reading,), name="airfreight-waker", daemon=True).start()

    def _work(self, reading: int) -> None:
        in_earnest = False
        while True:
            numbers = os.read(reading, 64)
            if signal.SIGINT in numbers:
                in_earnest = not in_earnest
                if in_earnest:
                    # This one is read here, too.
                    signal.pthread_kill(self._main, signal.SIGINT)


_waker: _Waker | None = None


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Takes interrupts of this process for those of a call."""
    global _waker  # noqa: PLW0603 - one for the process
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    if _waker is None or _waker.pid != os.getpid():
        _waker = _Waker()
    handler = signal.signal(signal.SIGINT, interruption.handle)
    descriptor = signal.set_wakeup_fd(_waker.writing, warn_on_full_buffer=False)
    try:
        yield interruption
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, handler)
