"""One call as its owner knows it: where it stands, and who waits for that."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Record = dict[str, Any]

_OVER = ("SUCCEEDED", "FAILED", "STOPPED")
# What a list of states leaves out.
_LONG = ("record", "tail")

_numbers = itertools.count(1)


class Call:
    """
    The state of a call.

    :param owner: the owner's name.
    :param wanted: the call as it was sent.
    :param changed: told of each change.
    """

    def __init__(self, owner: str, wanted: Record, changed: Callable[[Call], None]) -> None:
        self.id: str = wanted["id"]
        self.nonce: str = wanted["nonce"]
        #: Tells two calls of one id apart, of which the first was forgotten.
        self.submitted = next(_numbers)
        #: The number of its last change among all changes of its owner.
        self.seq = 0
        self.cancelled = False
        self.pid: int | None = None
        #: What Ray calls what runs: references, an actor.
        self.refs: Any = None
        self.actor: Any = None
        self.task: Any = None
        self._changed = changed
        self._waiters: set[Any] = set()
        self._state: Record = {
            "id": self.id,
            "nonce": self.nonce,
            "owner": owner,
            "version": 0,
            "status": "PENDING",
            "node_id": None,
            "start_time": int(time.time() * 1000),
            "end_time": None,
            "metadata": wanted.get("metadata") or {},
            "message": None,
            "error_type": None,
            "log_bytes": None,
            "tail": None,
            "record": None,
        }

    @property
    def is_over(self) -> bool:
        return self._state["status"] in _OVER

    @property
    def node_id(self) -> str | None:
        found: str | None = self._state["node_id"]
        return found

    def change(self, **changes: Any) -> None:
        """Changes the state, once and for all if it is over then."""
        if self.is_over:
            return
        self._state.update(changes)
        self._state["version"] += 1
        if self._state["status"] in _OVER and self._state["end_time"] is None:
            self._state["end_time"] = int(time.time() * 1000)
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._changed(self)

    def finish(self, status: str, error_type: str | None = None, message: str | None = None, **more: Any) -> None:
        """Ends the call."""
        self.change(status=status, error_type=error_type, message=message, **more)

    async def over(self, wait: float) -> None:
        """Returns when the call is over, or after so many seconds."""
        deadline = time.monotonic() + wait
        while not self.is_over and await self._next(deadline):
            pass

    async def newer(self, seen: int, wait: float) -> None:
        """Returns when the state is newer than a version, or after so many seconds."""
        deadline = time.monotonic() + wait
        while self._state["version"] <= seen and await self._next(deadline):
            pass

    async def _next(self, deadline: float) -> bool:
        """Waits for a change; false when time has run out."""
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait_for(waiter, left)
        except asyncio.TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def state_json(self) -> bytes:
        return json.dumps(self._state).encode("utf-8", "surrogatepass")

    def state(self) -> Record:
        """The state, as it is now."""
        return dict(self._state)

    def brief(self) -> Record:
        """The state without what can be long."""
        return {name: value for name, value in self._state.items() if name not in _LONG}
