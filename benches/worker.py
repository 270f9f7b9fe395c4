"""
The processes that put and get: ``python -m benches.worker PEER`` in the peer's own environment.

It imports what an Airflow worker has imported, where there is an Airflow, and then forks once per line of its input, as
such a worker does for each task. The child imports numpy, pandas and pyarrow, as the DAG file of a task does
(tests/xcom/dags/xcom_forked.py looks at a real one), connects to the socket which the line names, does what is asked of
it there, and leaves by ``os._exit``. Given a socket as second argument, it does so itself and forks nothing.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import machine, peers, values

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.peers.base import Peer


#: What the DAG file of a task imports whose values are measured.
_LIBRARIES = ("numpy", "pandas", "pyarrow")


class Session:
    """What one process holds while it is asked to do things; every method is one thing to do."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.value: Any = None
        self.got: Any = None
        self.handle = ""

    def make(self, kind: str, nbytes: int) -> None:
        """The value, and what a limit needs besides it; nothing of this is timed."""
        # A limit copies plain bytes, whatever they would mean.
        self.value = values.make("array" if self.peer.is_limit else kind, nbytes)
        self.peer.prepare(self.value)
        gc.collect()

    def ready_memory(self, nbytes: int) -> None:
        """Sees to it that so much free memory is there; by this process, as it comes back to where it was freed."""
        machine.ready(nbytes)

    def load(self) -> None:
        """Imports the peer's own modules."""
        for module in self.peer.client:
            importlib.import_module(module)

    def connect(self) -> None:
        self.peer.connect()

    def use(self, count: int, seconds: float) -> int:
        """Puts and deletes the value until either is reached; how often."""
        end = time.monotonic() + seconds
        for number in range(count):
            self.peer.delete(self.peer.put(self.value))
            if time.monotonic() > end:
                return number + 1
        return count

    def put(self) -> None:
        self.handle = self.peer.put(self.value)

    def get(self) -> None:
        self.got = self.peer.get(self.handle)

    def touch(self) -> None:
        values.touch(self.got)

    def drop(self) -> None:
        self.value = self.got = None
        gc.collect()

    def drop_got(self) -> None:
        self.got = None
        gc.collect()

    def delete(self) -> None:
        self.peer.delete(self.handle)

    def close(self) -> None:
        self.peer.close()

    def used_bytes(self) -> int | None:
        return self.peer.used_bytes()

    def difference(self, kind: str, nbytes: int) -> str | None:
        return values.difference(values.make(kind, nbytes), self.got)

    def digest(self) -> str:
        """Of the bytes of what was got, else of what was made."""
        return values.digest(self.value if self.got is None else self.got)

    def private_bytes(self) -> int:
        """Anonymous memory once everything that can be given back has been."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with Path("/proc/self/smaps_rollup").open() as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))

    def hot_put(self, count: int) -> dict[str, Any]:
        """The same small value again and again; nanoseconds for each."""
        handles, nanoseconds = [], []
        for _ in range(count):
            start = time.perf_counter_ns()
            handle = self.peer.hot_put(self.value)
            nanoseconds.append(time.perf_counter_ns() - start)
            handles.append(handle)
        return {"handles": handles, "nanoseconds": nanoseconds}

    def hot_get(self, handles: list[str]) -> dict[str, Any]:
        nanoseconds = []
        for handle in handles:
            start = time.perf_counter_ns()
            self.peer.hot_get(handle)
            nanoseconds.append(time.perf_counter_ns() - start)
        return {"nanoseconds": nanoseconds}

    def hot_delete(self, handles: list[str]) -> None:
        self.peer.delete_all(handles)


def serve(address: str, peer_class: type[Peer]) -> socket.socket:
    """
    Answers requests until the other side hangs up: each is a place to work in and a list of things to do there.

    :returns: the connection, still open: the kernel closes it once our memory is gone, so that freeing it disturbs no
        measurement.
    """
    for module in _LIBRARIES:
        importlib.import_module(module)
    # Theirs, and not of what is measured next.
    gc.collect()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    session: Session | None = None
    stream = connection.makefile("rwb")
    for line in stream:
        request = json.loads(line)
        session = session or Session(peer_class(request["place"]))
        session.handle = request.get("handle", session.handle)
        stream.write(json.dumps(_run(session, request["steps"])).encode() + b"\n")
        stream.flush()
    return connection


def _run(session: Session, steps: list[list[Any]]) -> dict[str, Any]:
    """Does the steps one after the other, with nothing but the clock between them."""
    calls: list[tuple[str, Callable[..., Any], list[Any]]] = [
        (name, getattr(session, name), arguments) for name, *arguments in steps
    ]
    times: dict[str, int] = {}
    results: dict[str, Any] = {}
    try:
        for name, call, arguments in calls:
            start = time.perf_counter_ns()
            results[name] = call(*arguments)
            times[name] = time.perf_counter_ns() - start
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}
    return {"times": times, "results": results, "handle": session.handle, "pid": os.getpid()}


def main(name: str, address: str | None) -> None:
    # What a library prints must not get between our lines.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        peer_class = peers.load(name)
        for module in peer_class.preload:
            importlib.import_module(module)
        if not address:
            _check(peer_class)
    except BaseException as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    if address:
        _connection = serve(address, peer_class)
        # As after a fork: nothing is tidied up, and the socket closes last.
        os._exit(0)
    # Children are reaped by the kernel.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(json.dumps({"versions": _versions()}), file=answers, flush=True)
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status = 1
            try:
                _connection = serve(line.strip(), peer_class)
                status = 0
            finally:
                os._exit(status)


def _check(peer_class: type[Peer]) -> None:
    """Finds out whether what a process is to import is there, in one that ends with it."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        reason = ""
        try:
            for module in (*_LIBRARIES, *peer_class.client):
                importlib.import_module(module)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
        os.write(writing, reason.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        reason = lines.read()
    os.wait()
    if reason:
        raise ImportError(reason)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for distribution in ("numpy", "pandas", "pyarrow", "airfreight", "apache-airflow", "vineyard", "ray"):
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
