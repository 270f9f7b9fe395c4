"""The driver's side of the processes that put and get."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from benches.processes import private_bytes, stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benches.peers.base import Peer

ROOT = Path(__file__).resolve().parent.parent


class StepError(Exception):
    """A step raised in the process that did it; the message is the exception's."""


@dataclass(frozen=True)
class Answer:
    """What a process did: seconds and result of each step."""

    seconds: dict[str, float]
    results: dict[str, Any]
    handle: str
    pid: int
    #: The most private memory that was seen while it did it; 0 unless asked for.
    private_bytes_max: int = 0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


class Task:
    """One process, forked from its worker with everything imported, as an Airflow task is."""

    def __init__(self, connection: socket.socket, place: str) -> None:
        self._connection = connection
        self._stream = connection.makefile("rwb")
        self._place = place
        self.pid = 0

    def run(self, *steps: str | list[Any], handle: str | None = None, watch: bool = False) -> Answer:
        """
        Does the steps without a pause between them.

        :param handle: what a put returned, for steps that need it.
        :param watch: look at the process' private memory all the while; costs the second core.
        """
        request: dict[str, Any] = {
            "place": self._place,
            "steps": [step if isinstance(step, list) else [step] for step in steps],
        }
        if handle is not None:
            request["handle"] = handle
        self._stream.write(json.dumps(request).encode() + b"\n")
        self._stream.flush()
        highest = self._watch() if watch else 0
        line = self._stream.readline()
        if not line:
            raise StepError("the process died")
        reply = json.loads(line)
        if "error" in reply:
            raise StepError(reply["error"])
        self.pid = reply["pid"]
        seconds = {name: nanoseconds / 1e9 for name, nanoseconds in reply["times"].items()}
        return Answer(seconds, reply["results"], reply["handle"], reply["pid"], highest)

    def _watch(self) -> int:
        highest = 0
        while not select.select([self._connection], [], [], 0)[0]:
            highest = max(highest, private_bytes(self.pid))
        return highest

    def end(self) -> None:
        """Closes the connection, upon which the process leaves, and waits until it has."""
        self._connection.shutdown(socket.SHUT_WR)
        self._stream.read()
        self._stream.close()
        self._connection.close()


@dataclass
class Worker:
    """A process of one peer that forks the tasks, and where the peer works."""

    name: str
    peer: type[Peer]
    place: str
    versions: dict[str, str]
    _process: subprocess.Popen[bytes] = field(repr=False)
    _start: Callable[..., subprocess.Popen[bytes]] = field(repr=False)
    _scratch: Path = field(repr=False)
    _count: int = 0

    @contextmanager
    def task(self, place: str | None = None, *, is_new_interpreter: bool = False) -> Iterator[Task]:
        """
        A new process.

        :param is_new_interpreter: rather than forked from the worker, started anew; imports what the worker has.
        """
        self._count += 1
        address = self._scratch / f"task-{self._count}.sock"
        process = None
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen(1)
            listener.settimeout(60)
            if is_new_interpreter:
                process = self._start(str(address))
            else:
                assert self._process.stdin is not None
                self._process.stdin.write(f"{address}\n".encode())
                self._process.stdin.flush()
            connection, _ = listener.accept()
        address.unlink()
        # Longer than the slowest step, so that a hang becomes a failure with a name.
        connection.settimeout(300)
        task = Task(connection, place or self.place)
        try:
            yield task
        finally:
            task.end()
            if process:
                process.communicate()


class MissingPeerError(Exception):
    """A peer can't take part; the message says why."""


@contextmanager
def worker(name: str, peer: type[Peer], scratch: Path) -> Iterator[Worker]:
    """
    Starts a peer's server, if it has one, and its worker; stops both.

    :param scratch: a folder in shared memory that is the peer's own.
    """
    python = ROOT / peer.venv / "bin" / "python"
    if not python.exists():
        raise MissingPeerError(f"{peer.venv} is not there")
    place_folder = scratch / "place"
    place_folder.mkdir(parents=True)
    with peer.serve(place_folder, python) as place:
        environment = {
            **os.environ,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # Threads of a library that nobody here calls; they would only be in the way of fork.
            "OPENBLAS_NUM_THREADS": "1",
            **peer.environment(place),
        }
        with (scratch / "worker.log").open("wb") as log:
            start = partial(_start, python, name, environment, log)
            process = start()
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise MissingPeerError(f"its worker died: {_last_line(scratch / 'worker.log')}")
                greeting = json.loads(line)
                if "error" in greeting:
                    raise MissingPeerError(greeting["error"])
                yield Worker(name, peer, place, greeting["versions"], process, start, scratch)
            finally:
                assert process.stdin is not None
                process.stdin.close()
                stop(process)


def _start(
    python: Path, name: str, environment: dict[str, str], log: BinaryIO, *address: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [python, "-m", "benches.worker", name, *address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, env=environment,
    )  # fmt: skip


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
