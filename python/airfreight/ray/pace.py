"""
How fast lines may go from a trigger into its task's log.

A triggerer's supervisor takes at most 4 KiB of log from its triggers, and one request, in each round of its loop; what
it has not taken when a trigger ends or the triggerer dies is lost, and a full pipe stops every trigger. So after some
lines, and before anything that relies on them, it is sent an idle request: its answer says that a round has passed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from airfreight.ray import supervisor

#: What the supervisor reads in one round.
_ROUND_BYTES = 4096

#: What Airflow adds to a line: time, logger, task instance.
_LINE_BYTES = 400


class Pace:
    """What the triggers of one event loop have logged and the supervisor may not have taken yet."""

    def __init__(self) -> None:
        self._pending = 0
        self._lock = asyncio.Lock()

    def logged(self, line: str) -> bool:
        """Take note of a line; ``True`` when it is time to :meth:`settle`."""
        self._pending += _LINE_BYTES + len(line)
        return self._pending >= _ROUND_BYTES

    async def settle(self) -> None:
        """Return when what was logged is in the log."""
        async with self._lock:
            pending, self._pending = self._pending, 0
            for _ in range(-(-pending // _ROUND_BYTES)):
                with suppress(supervisor.Silence):
                    await supervisor.ping()


_current: tuple[asyncio.AbstractEventLoop, Pace] | None = None


def pace() -> Pace:
    """The pace of the running loop."""
    global _current  # noqa: PLW0603 - one per process is the point; only tests have more loops than one
    loop = asyncio.get_running_loop()
    if _current is None or _current[0] is not loop:
        _current = loop, Pace()
    return _current[1]
