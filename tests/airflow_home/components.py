"""The processes of one Airflow: each in a session of its own, with a log, stopped to the last child."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from airflow_home import keeper
from airflow_home.errors import ComponentDiedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: Airflow stops in two or three seconds, sometimes never; nothing of it is needed any more.
STOP_SECONDS = 6.0


class Keeper:
    """Kills the sessions it was told of when this process ends without having stopped them (see ``keeper.py``)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-ISE", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin

    def watch(self, session: int) -> None:
        """Kill this session, too."""
        self._tell(b"+%d\n" % session)

    def forget(self, session: int) -> None:
        """Spare this session, since its id may soon be somebody else's."""
        self._tell(b"-%d\n" % session)

    def close(self) -> None:
        """End the keeper, which kills what it was not told to forget."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody has ended the keeper; stopping goes on without it
            self._pipe.write(line)
            self._pipe.flush()


class Component:
    """
    One running Airflow command.

    :param name: the command, such as ``scheduler``.
    :param command: the program and its arguments.
    :param env: the whole environment of the process.
    :param log: where its output goes.
    """

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process, which also leads the session of everything that it starts."""
        return self._process.pid

    def members(self) -> list[int]:
        """The pids of the component and of all that it started, without its own zombie."""
        return [pid for pid in keeper.session_members(self.pid) if pid != self.pid or self._ended() is None]

    def check(self) -> None:
        """
        Make sure that the component still runs.

        :raises ComponentDiedError: it has ended; the message ends with its log.
        """
        if (ended := self._ended()) is not None:
            raise ComponentDiedError(self.name, ended, self.log)

    def signal(self, number: int) -> None:
        """Send a signal to the component and to all that it started."""
        keeper.signal_session(self.pid, number)

    def reap(self) -> None:
        self._process.wait()

    def _ended(self) -> str | None:
        if self._process.returncode is not None:
            return f"ended with {self._process.returncode}"
        # A look that leaves the zombie in place: as long as it is there, its pid, and so the id of the session that
        # we signal, cannot become somebody else's.
        result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        how = "exited with" if result.si_code == os.CLD_EXITED else "was killed by signal"
        return f"{how} {result.si_status}"


class Components(dict[str, Component]):
    """The running components by name."""

    def __init__(self) -> None:
        super().__init__()
        self._keeper: Keeper | None = None

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> Component:
        if self._keeper is None:
            self._keeper = Keeper()
        component = self[name] = Component(name, command, env=env, log=log)
        self._keeper.watch(component.pid)
        return component

    def check(self) -> None:
        """
        Make sure that every component still runs.

        :raises ComponentDiedError: one has ended.
        """
        for component in self.values():
            component.check()

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Stop the named components, or all: SIGTERM, then SIGKILL to what is left after a while."""
        going = [self[name] for name in (self if names is None else names)]
        for component in going:
            component.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(component.members() for component in going):
            if time.monotonic() > deadline:
                # Again and again, as a process may fork between being listed and being killed.
                for component in going:
                    component.signal(signal.SIGKILL)
            time.sleep(0.05)
        for component in going:
            if self._keeper is not None:
                self._keeper.forget(component.pid)
            component.reap()
            del self[component.name]
        if not self and self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
