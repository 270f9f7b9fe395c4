"""
Ends what a harness started in case the harness itself is killed.

It runs as a process of its own and reads from a pipe which sessions were started (``+id``) and stopped (``-id``). The
pipe ends with the harness, however that died: then every session that was not stopped is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def session_members(session: int) -> list[int]:
    """
    List the processes of a session.

    Airflow gives each task a process group of its own, so signalling a component's group would miss them. They all
    stay in the component's session.
    """
    try:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except FileNotFoundError:
        pids = [int(pid) for pid in subprocess.check_output(["ps", "-A", "-o", "pid="], text=True).split()]
    members = []
    for pid in pids:
        try:
            if os.getsid(pid) == session:
                members.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def signal_session(session: int, number: int) -> None:
    """Send a signal to every process of a session."""
    for pid in session_members(session):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def main() -> None:
    sessions: set[int] = set()
    for line in sys.stdin:
        change = sessions.add if line[0] == "+" else sessions.discard
        change(int(line[1:]))
    for session in sessions:
        signal_session(session, signal.SIGKILL)


if __name__ == "__main__":
    main()
