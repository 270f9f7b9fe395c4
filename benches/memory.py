"""How much memory processes take for themselves while something happens."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Self


class Sampler:
    """
    Looks at the private memory of processes: what they share, in stores and files, isn't theirs.

    :param sides: processes by the side that they are on.
    """

    SECONDS = 0.02

    def __init__(self, sides: dict[str, list[int]]) -> None:
        self._sides = sides
        self._before = {side: {pid: anonymous(pid) for pid in pids} for side, pids in sides.items()}
        self._most: dict[str, int] = dict.fromkeys(sides, 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def grown(self) -> dict[str, int]:
        """The most that the processes of a side had together beyond what they had at the beginning."""
        return self._most

    def _look(self) -> None:
        while not self._over.wait(self.SECONDS):
            for side, before in self._before.items():
                more = sum(max(0, anonymous(pid) - had) for pid, had in before.items() if had)
                self._most[side] = max(self._most[side], more)


def anonymous(pid: int) -> int:
    """A process's private memory in bytes; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
