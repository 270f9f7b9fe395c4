"""Child processes, by pid: whose children they are, how they end, what memory is theirs alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """Asks the process to end; makes it, when it won't."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop_pid(pid: int, seconds: float = 5) -> None:
    """The same for a process that isn't our child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The processes below this one, nearest first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(0), [])
        found += children
        waiting += children
    return found


def private_bytes(pid: int) -> int:
    """Anonymous memory of a process; cheap enough to be asked thousands of times a second."""
    fields = Path(f"/proc/{pid}/statm").read_bytes().split()
    # Resident pages less those of files and shared memory.
    return (int(fields[1]) - int(fields[2])) * _PAGE
