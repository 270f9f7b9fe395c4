"""
Runs one command and ends it together with everything that it ever started.

A Ray cluster is two dozen processes in several sessions and process groups, and the driver of each job is in a session
of its own. What they have in common is their ancestor: this process adopts whom their parents leave behind, so all of
them can be found below it.

    python guardian.py LOG COMMAND…

When the command ends by itself, or when this one's input ends because the harness wants it or because the harness was
killed, it kills what is left and ends, with the code of the command in the first case.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def descendants(ancestor: int) -> list[int]:
    """List the processes below one, without those that have ended."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name of the program stands in parentheses and may hold anything.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in ("Z", "X"):
            children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    heads = [ancestor]
    while heads:
        below = children.get(heads.pop(), [])
        found += below
        heads += below
    return found


def reap() -> tuple[dict[int, int], bool]:
    """Collect those children that have ended, adopted ones among them, with their statuses; say whether any is left."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended[pid] = os.waitstatus_to_exitcode(status)


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def main() -> None:
    log, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot adopt the processes of Ray")
    for number in (signal.SIGINT, signal.SIGTERM):  # a Ctrl-C at the terminal is for the harness, which then ends us
        signal.signal(number, signal.SIG_IGN)
    with Path(log).open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    code = None
    while code is None and not select.select([sys.stdin], [], [], 0.2)[0]:
        code = reap()[0].get(process.pid)
    # Not until nothing is found in /proc: who loses a parent while that is read may be missed, but comes to us.
    while reap()[1]:
        kill(descendants(os.getpid()))
        time.sleep(0.02)
    sys.exit(code)


if __name__ == "__main__":
    main()
