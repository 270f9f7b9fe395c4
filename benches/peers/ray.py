"""Ray's object store, from drivers on one host: ``ray.init``, ``ray.put``, ``ray.get``."""

from __future__ import annotations

import base64
import os
import pickle
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benches.peers.base import Peer
from benches.processes import descendants, stop, stop_pid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FREED_SECONDS = 0.1


class Ray(Peer):
    label = "Ray 2.60.0"
    keeps_memory = True
    venv = ".venvs/bench-ray"
    preload = ()
    requires = ("ray==2.60.0", "numpy==*", "pandas==*", "pyarrow==*")
    client = ("ray",)

    def __init__(self, place: str) -> None:
        super().__init__(place)
        # An object lives only as long as the process that put it.
        self._owned: dict[str, Any] = {}

    @classmethod
    def environment(cls, place: str) -> dict[str, str]:
        # Ray frees once a second by default, so a put soon after would never find pages that were used before.
        return {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
            "RAY_free_objects_period_milliseconds": "0",
        }

    @classmethod
    @contextmanager
    def serve(cls, scratch: Path, python: Path) -> Iterator[str]:
        port = _free_port()
        # No CPUs: no worker processes are started ahead, which would only disturb what is measured next.
        command = [
            str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
            "--node-ip-address=127.0.0.1", "--num-cpus=0", "--object-store-memory=6000000000",
            "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={scratch}",
        ]  # fmt: skip
        with running(command, scratch / "ray.log", cls.environment("")):
            yield f"127.0.0.1:{port}"

    def connect(self) -> None:
        import ray

        ray.init(address=self.place, log_to_driver=False, logging_level="ERROR", configure_logging=False)

    def put(self, value: Any) -> str:
        import ray

        reference = ray.put(value)
        # What pickling a reference writes; but a pickled one keeps its object for as long as this process lives, so
        # that the next put would never find pages that were used before.
        core = ray._private.worker.global_worker.core_worker
        owner, status = core.serialize_object_ref(reference)[1:]
        parts = reference.binary(), reference.call_site(), owner, status, reference.tensor_transport()
        handle = base64.b64encode(pickle.dumps(parts)).decode()
        self._owned[handle] = reference
        return handle

    def get(self, handle: str) -> Any:
        import ray
        from ray._private.serialization import _object_ref_deserializer

        return ray.get(_object_ref_deserializer(*pickle.loads(base64.b64decode(handle))))

    def delete(self, handle: str) -> None:
        self.delete_all([handle])

    def delete_all(self, handles: list[str]) -> None:
        for handle in handles:
            del self._owned[handle]
        # Another process frees them, and says nothing when it has.
        time.sleep(_FREED_SECONDS)

    def close(self) -> None:
        import ray

        ray.shutdown()

    def used_bytes(self) -> int | None:
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[list[int]]:
    """Runs ``ray start --block``; gives the processes of the node once it has started, and ends them."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | environment, start_new_session=True
        )
    try:
        _wait_until_started(process, log)
        yield descendants(process.pid)
    finally:
        children = descendants(process.pid)
        stop(process)
        for pid in children:
            stop_pid(pid)


def _wait_until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if b"Ray runtime started" in log.read_bytes():
            return
        time.sleep(0.1)
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raise RuntimeError(f"Ray did not start: {lines[-1] if lines else 'it said nothing'}")
