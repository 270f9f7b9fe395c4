"""One `airfreight agent` over a store, for tests that kill it."""

from __future__ import annotations

import re
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Self

from host_home import binary

if TYPE_CHECKING:
    from pathlib import Path

_LISTENING = re.compile(r"127\.0\.0\.1:(\d+)")
_WAIT_SECONDS = 60.0


class AgentProcess:
    """
    An agent on a free port, until its context ends.

    :param store: the store's directory.
    :param env: all of its environment.
    """

    def __init__(self, store: Path, log: Path, env: dict[str, str], *arguments: str) -> None:
        self._command = [binary(), "agent", "--store", str(store), "--listen", "127.0.0.1:0", *arguments]
        self._env, self._log = env, log
        self._process: subprocess.Popen[bytes] | None = None
        self._port = ""

    def start(self) -> None:
        """Start it, and wait until it listens."""
        begins_at = len(self.said())
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._env, stdin=subprocess.DEVNULL, stderr=log)
        self.until(lambda: _LISTENING.search(self.said()[begins_at:]) is not None, "the agent listens")
        found = _LISTENING.search(self.said()[begins_at:])
        assert found is not None
        self._port = found[1]

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def said(self) -> str:
        """Its log, of all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    def get(self, path: str) -> str:
        """What it answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self._port}{path}", timeout=60) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, series: str) -> float:
        """One of its numbers; 0 for what it has not counted yet."""
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines())
        return next((float(value) for name, value in lines if name == series), 0.0)

    def until(self, condition: Any, what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not {what}: {self.said()[-3000:]}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
