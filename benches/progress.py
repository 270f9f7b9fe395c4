"""What a benchmark says while it runs."""

from __future__ import annotations

import time
from typing import Any


class Progress:
    """What is being done, on one line of a terminal; elsewhere a line now and then."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._started = time.monotonic()
        self._last = ""

    def __call__(self, text: str) -> None:
        elapsed = time.monotonic() - self._started
        if self._is_terminal:
            self._stream.write(f"\r\x1b[K{elapsed:5.0f} s  {text[:110]}")
        elif text.split(":", maxsplit=1)[0] != self._last:
            self._last = text.split(":", maxsplit=1)[0]
            self._stream.write(f"{elapsed:5.0f} s  {self._last}\n")
        self._stream.flush()

    def end(self) -> None:
        if self._is_terminal:
            self._stream.write("\r\x1b[K")
