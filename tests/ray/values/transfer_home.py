"""Both ends of a transfer: stores on this host, and a runner in a cluster, with a proxy before its port if need be."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutting_proxy import CuttingProxy

from airfreight._remote import RayClient
from airfreight._store import Store
from airfreight.ray.parcel import driver_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airfreight._remote import RayRunner
    from ray_home import RayHome

MIB = 1 << 20
INFO = {"deployment": "d", "dag_id": "flights", "run_id": "r"}


@dataclass
class Near:
    """
    A store on this host.

    :param settings: what ``fetch`` and ``send`` are told of it.
    """

    settings: dict[str, Any]
    store: Store

    def put(self, nbytes: int, seed: int = 0) -> str:
        """An object of random bytes."""
        data = _content(nbytes, seed)
        with self.store.create() as writer:
            writer.write(b"the stream")
            if writer.add_buffer(data):
                # Too short for a buffer of its own.
                writer.write(data)
            return writer.seal(json.dumps({"type": "test", "codec": "pickle5", "preview": {}}))

    def assert_is(self, name: str, nbytes: int, seed: int = 0) -> None:
        found = self.store.get(name)
        expected = memoryview(b"the stream" + _content(nbytes, seed))
        for part in (found.stream, *found.buffers):
            assert part == expected[: len(part)], f"another content, {len(expected)} bytes before the end"
            expected = expected[len(part) :]
        assert not len(expected)

    def assert_empty(self) -> None:
        stat = self.store.stat()
        assert not self.store.names()
        assert stat["unfinished"] == 0, stat
        assert stat["used_bytes"] == stat["warm_bytes"], stat


def _content(nbytes: int, seed: int) -> bytes:
    made = random.Random(seed + nbytes)
    # At most 256 MiB at a time can be asked for.
    return b"".join(made.randbytes(min(64 * MIB, nbytes - start)) for start in range(0, nbytes, 64 * MIB))


@contextmanager
def near(capacity_mib: int, spill_mib: int) -> Iterator[Near]:
    folder = Path(tempfile.mkdtemp(prefix="airfreight-test-", dir="/dev/shm"))
    settings = {
        "path": str(folder / "store"),
        "capacity_bytes": capacity_mib * MIB,
        "spill_path": str(folder / "spill"),
        "spill_capacity_bytes": spill_mib * MIB,
    }
    given = dict(settings)
    yield Near(settings, Store(given.pop("path"), **given))
    shutil.rmtree(folder, ignore_errors=True)


class Far:
    """
    The runner of a cluster, and the ways to it.

    :param cluster: where it runs.
    """

    def __init__(self, cluster: RayHome) -> None:
        self.cluster = cluster
        self.client = RayClient(cluster.address, patience=60.0)
        self.runner = self.client.runner(driver_package(), idle_seconds=0)
        self.runner.ready(120)
        self._owners: list[str] = []
        self._seconds = 1000

    @property
    def beacon(self) -> Path:
        """The file in which the runner says where it is."""
        return self.cluster.logs / "airfreight" / f"{self.runner.id}.json"

    @property
    def about(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.beacon.read_text())
        return found

    def owner(self) -> str:
        """The name of a run's owner that nobody else has."""
        self._owners.append(f"airfreight-owner-{os.urandom(10).hex()}")
        return self._owners[-1]

    def handle(self, transport: str = "port") -> RayRunner:
        """The same runner, known by nobody yet."""
        self._seconds += 1
        return self.client.runner(driver_package(), idle_seconds=self._seconds, transport=transport)

    @contextmanager
    def cutting(self) -> Iterator[CuttingProxy]:
        """Puts a proxy before the runner's port; handles that are made meanwhile lead there."""
        about = self.about
        with CuttingProxy(lambda: about["port"]) as proxy:
            self._say({**about, "port": proxy.port})
            yield proxy
            if self.about["epoch"] == about["epoch"]:
                self._say(about)

    def _say(self, about: dict[str, Any]) -> None:
        temp = self.beacon.with_suffix(".new")
        temp.write_text(json.dumps(about))
        temp.replace(self.beacon)

    def drop_owners(self) -> None:
        while self._owners:
            self.runner.drop_owner(self._owners.pop())
