"""
Reads the whole log of a job by one way, and says how long that took, what arrived, and how much memory it needed.

Its argument is a JSON object. What counts begins when it is told to go on: modules are loaded by then.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Hands on what has arrived.
Take = Callable[[bytes], None]
#: Reads all of a log.
Read = Callable[[Take], None]


def main() -> None:
    arguments = json.loads(sys.argv[1])
    read = WAYS[arguments["way"]](arguments["address"], arguments["job"])
    before = _peak_bytes()
    _report("ready")
    sys.stdin.readline()
    digest, size, pieces = hashlib.sha256(), 0, 0

    def take(piece: bytes) -> None:
        nonlocal size, pieces
        digest.update(piece)
        size += len(piece)
        pieces += 1

    started, processor = time.perf_counter(), time.process_time()
    read(take)
    took, processor = time.perf_counter() - started, time.process_time() - processor
    _report(
        "read",
        seconds=took, processor=processor, bytes=size, pieces=pieces, digest=digest.hexdigest(),
        grown_bytes=_peak_bytes() - before, peak_bytes=_peak_bytes(),
    )  # fmt: skip


def _watch(address: str, job: str) -> Read:
    """Ours, as a worker follows its job."""
    from airfreight._remote import RayClient

    def read(take: Take) -> None:
        with RayClient(address).watch(job) as watch:
            while _is_followed(watch.next(), take):
                pass

    return read


def _watch_in_loop(address: str, job: str) -> Read:
    """Ours, as a trigger follows its job."""
    from airfreight._remote import RayClient

    async def follow(take: Take) -> None:
        with RayClient(address).watch(job) as watch:
            while _is_followed(await watch.anext(), take):
                pass

    return lambda take: asyncio.run(follow(take))


def _is_followed(event: dict[str, Any] | None, take: Take) -> bool:
    """Whether there is more to come."""
    assert event is not None
    if event["event"] == "lines":
        # As whoever logs them looks at each.
        take("".join([f"{line}\n" for line in event["lines"]]).encode())
    elif event["event"] == "ended" and event["log_error"]:
        raise RuntimeError(event["log_error"])
    elif event["event"] in ("repeats", "unreachable", "gone"):
        raise RuntimeError(f"the log is not read at one go: {event}")
    return event["event"] != "ended"


def _tail(address: str, job: str) -> Read:
    """Ray's own client, as `ray job submit` and astro's trigger follow a job."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(address)

    async def follow(take: Take) -> None:
        async for lines in client.tail_job_logs(job):
            take(lines.encode())

    return lambda take: asyncio.run(follow(take))


WAYS: dict[str, Callable[[str, str], Read]] = {
    "watch": _watch,
    "watch_in_loop": _watch_in_loop,
    "tail": _tail,
}


def _peak_bytes() -> int:
    """The most memory that was ever resident."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmHWM")


def _report(name: str, **values: Any) -> None:
    sys.stdout.write("\n" + json.dumps({"report": name, **values}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
