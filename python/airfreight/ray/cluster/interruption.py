"""
How a call is interrupted: a KeyboardInterrupt in the function, and nowhere else.

Ray interrupts a task by making Python believe that a signal had come. A function that waits for the operating system,
in a sleep or for a socket, wouldn't notice before that has answered. But Python also writes the number of such a signal
to a descriptor, and a thread of ours that reads it sends the signal in earnest, unless the function has noticed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any, Iterator

# A function that computes notices by itself.
_PATIENCE_SECONDS = 0.02


class Interruption:
    """Whether a call was interrupted, and whether its function may be."""

    def __init__(self) -> None:
        self.happened = False
        self._function_runs = False

    def handle(self, _number: int, _frame: Any) -> None:
        first, self.happened = not self.happened, True
        # Once, since the signal may come again, in earnest; what surrounds the function must put the process in order.
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
        self.lock = threading.Lock()
        #: The call that may be interrupted now.
        self.interruption: Interruption | None = None
        self._main = threading.main_thread().ident or 0
        threading.Thread(target=self._work, args=(reading,), name="airfreight-waker", daemon=True).start()

    def _work(self, reading: int) -> None:
        while True:
            os.read(reading, 64)
            time.sleep(_PATIENCE_SECONDS)
            with self.lock:
                # The signal itself is read here, too: it is sent until it has been noticed.
                if self.interruption is not None and not self.interruption.happened:
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
    # Ray blocks it in its workers.
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    descriptor = signal.set_wakeup_fd(_waker.writing, warn_on_full_buffer=False)
    _waker.interruption = interruption
    try:
        yield interruption
    finally:
        # After this, none is sent any more that nobody would expect.
        with _waker.lock:
            _waker.interruption = None
        signal.set_wakeup_fd(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
