"""A hundred megabytes of a job's output: by our watch and our command, and by Ray's own client."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from benches.ray.narrow import dashboard_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.ray.rig import Rig

MEGABYTES = 100
LINE_BYTES = 100
_CHUNK = 1 << 20


def measure(rig: Rig, rounds: int) -> dict[str, Any]:
    """Seconds, peak memory and completeness, round by round; the job is over before anybody reads."""
    with dashboard_alone(rig.ray.address) as narrow:
        return _measure(rig, rounds, narrow)


def _measure(rig: Rig, rounds: int, narrow: str) -> dict[str, Any]:
    job = f"log-{uuid4().hex[:8]}"
    count = MEGABYTES * 1_000_000 // LINE_BYTES
    rig.say("logs: writing one")
    # Every line is another one, so that a missing or repeated one shows.
    entrypoint = f"seq -f '%0{LINE_BYTES - 1}.0f' 1 {count}"
    rig.ray.request("POST", "/api/jobs/", {"entrypoint": entrypoint, "submission_id": job})
    rig.ray.wait_for_job(job)
    with (rig.ray.logs / f"job-driver-{job}.log").open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "watch, worker": lambda: _process(rig, "airfreight", "watch", rig.ray.address, job),
        "watch, trigger": lambda: _process(rig, "airfreight", "watch_in_loop", rig.ray.address, job),
        "watch, by the dashboard alone": lambda: _process(rig, "airfreight", "watch", narrow, job),
        "`airfreight ray logs`": lambda: _command(rig, job),
        "Ray's tail_job_logs": lambda: _process(rig, "ray", "tail", rig.ray.address, job),
    }
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in ways}
    for number in range(rounds):
        for name in [*list(ways)[number % len(ways) :], *list(ways)[: number % len(ways)]]:
            rig.say(f"logs: round {number + 1} of {rounds}, {name}")
            one = ways[name]()
            # Ray's client turns the first line's end into that of a frame; its bytes are compared, not its pieces.
            one["is_complete"] = one.pop("digest") == expected
            for key, value in one.items():
                found[name].setdefault(key, []).append(value)
    return {
        "bytes": (rig.ray.logs / f"job-driver-{job}.log").stat().st_size,
        "ways": found,
        "median": {name: median(one["seconds"]) for name, one in found.items()},
    }


def _process(rig: Rig, provider: str, way: str, address: str, job: str) -> dict[str, Any]:
    with rig.program(provider, "logs_process", address, {"way": way, "job": job}) as program:
        program.report("ready")
        program.tell("go")
        answer = program.report("read")
        answer.pop("report")
        return answer


def _command(rig: Rig, job: str) -> dict[str, Any]:
    started = time.perf_counter()
    digest, size, pieces = hashlib.sha256(), 0, 0
    process = subprocess.Popen(
        [rig.airfreight, "ray", "logs", "--address", rig.ray.address, job], stdout=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    with _Peak(process.pid) as peak:
        while piece := process.stdout.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
            pieces += 1
    if process.wait():
        raise RuntimeError(f"`airfreight ray logs` ended with {process.returncode}")
    took = time.perf_counter() - started
    return {
        "seconds": took, "bytes": size, "pieces": pieces, "digest": digest.hexdigest(), "peak_bytes": peak.bytes,
        "grown_bytes": peak.bytes,
    }  # fmt: skip


class _Peak:
    """The most memory that a process had resident, as long as it can be seen."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._status = Path(f"/proc/{pid}/status")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            for line in lines:
                if line.startswith("VmHWM:"):
                    self.bytes = max(self.bytes, int(line.split()[1]) * 1024)
