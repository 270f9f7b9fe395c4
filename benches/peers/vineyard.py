"""Vineyard 0.24.2: a daemon with an arena in shared memory, reached over a Unix socket."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benches.peers.base import Peer
from benches.processes import stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Vineyard(Peer):
    label = "vineyard 0.24.2"
    keeps_memory = True
    venv = ".venvs/bench-vineyard"
    preload = ()
    # It imports pkg_resources, which newer setuptools no longer have; its wheels end at Python 3.12.
    requires = ("vineyard==0.24.2", "setuptools<80", "numpy==*", "pandas==*", "pyarrow==*")
    python = "3.11"
    client = ("vineyard",)

    @classmethod
    @contextmanager
    def serve(cls, scratch: Path, python: Path) -> Iterator[str]:
        # Its documented command wants etcd; metadata in the daemon's own memory needs nothing and is faster.
        address = str(scratch / "vineyard.sock")
        daemon = next(python.parent.parent.glob("lib/python*/site-packages/vineyard/bdist/vineyardd"))
        command = [
            str(daemon),
            *("--deployment", "local"),
            *("--meta", "local"),
            *("--size", "6G"),
            *("--socket", address),
            "--norpc",
        ]
        with (scratch / "vineyardd.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=scratch, start_new_session=True)
        try:
            wait_for_socket(address, process, scratch / "vineyardd.log")
            yield address
        finally:
            stop(process)

    def connect(self) -> None:
        import vineyard

        self._client = vineyard.connect(self.place)

    def put(self, value: Any) -> str:
        return str(int(self._client.put(value)))

    def get(self, handle: str) -> Any:
        import vineyard

        return self._client.get(vineyard.ObjectID(int(handle)))

    def delete(self, handle: str) -> None:
        import vineyard

        self._client.delete(vineyard.ObjectID(int(handle)))

    def close(self) -> None:
        self._client.close()

    def used_bytes(self) -> int | None:
        return int(self._client.status.memory_usage)


def wait_for_socket(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(address)
            return
        except OSError:
            time.sleep(0.05)
    lines = log.read_text(errors="replace").splitlines()
    raise RuntimeError(f"vineyardd does not answer on {address}: {lines[-1] if lines else 'it said nothing'}")
