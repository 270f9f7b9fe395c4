"""
The ways of bringing a value from one host to another: what runs on both hosts, and how a process puts and gets there.

The classes are used by the driver, which starts what has to run, and by the processes on the hosts, each in the
environment of its peer (``python -m benches.worker benches.agent.peers:Vineyard``).
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from benches.peers import airfreight, ray, vineyard
from benches.peers.base import Peer
from benches.processes import stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from host_home import Host, Network

_GB = 1_000_000_000
#: What each store may hold. Airfreight keeps the pages of deleted objects up to a quarter of it, and should keep a
#: gigabyte's, as the others' arenas do.
_CAPACITY = 6 * _GB


@dataclass
class Served:
    """What runs: where each side works, and the processes that pass values on."""

    maker: str
    reader: str
    servers: list[int] = field(default_factory=list)


class Across(Peer):
    """A peer whose values go from the first host of a network to the second."""

    @classmethod
    @abstractmethod
    @contextmanager
    def serve_hosts(cls, network: Network, scratch: Path, python: Path) -> Iterator[Served]:
        """
        Starts what has to run on both hosts, stops it again.

        :raises RuntimeError: something isn't installed, or doesn't start.
        """
        yield Served("", "")


class Airfreight(airfreight.Airfreight, Across):
    """The agent of the host that has it, the store of the host that wants it."""

    label = "Airfreight"
    client = (*airfreight.Airfreight.client, "airfreight._remote")

    @classmethod
    @contextmanager
    def serve_hosts(cls, network: Network, scratch: Path, python: Path) -> Iterator[Served]:
        from benches.agent.measure import PORT, agent_on

        maker, reader = network.hosts
        with agent_on(maker, PORT) as process:
            asked = {"url": f"http://{maker.address}:{PORT}", "token": network.token}
            there = json.dumps({"store": f"{maker.folder}/store"})
            here = json.dumps({"store": f"{reader.folder}/store", **asked})
            yield Served(there, here, [process.pid])

    def connect(self) -> None:
        from airfreight._store import Store

        where = json.loads(self.place)
        self._options = {"path": where["store"], "capacity_bytes": _CAPACITY}
        self._store = Store(where["store"], capacity_bytes=_CAPACITY)
        self._agent = None
        if "url" in where:
            from airfreight._remote import Agent

            self._agent = Agent(where["url"], token=where["token"])

    def get(self, handle: str) -> Any:
        assert self._agent is not None
        # As a task does, whose row names another host's agent.
        self._agent.fetch(self._options, handle)
        return super().get(handle)


class Vineyard(vineyard.Vineyard, Across):
    """
    A daemon on each host, which know each other through etcd; getting migrates, as ``get(fetch=True)`` does.

    Only what was persisted is known to other daemons, so putting includes that, as ``persist`` of the Airflow provider
    does.
    """

    options: ClassVar[tuple[str, ...]] = ()
    #: etcd's, for clients and for other etcds; and the one by which daemons migrate.
    ports: ClassVar[tuple[int, int, int]] = (2379, 2380, 9600)
    _copy: Any = None

    @classmethod
    @contextmanager
    def serve_hosts(cls, network: Network, scratch: Path, python: Path) -> Iterator[Served]:
        if shutil.which("etcd") is None:
            raise RuntimeError(
                "vineyard's daemons find each other by etcd, which is not here (apt install etcd-server)"
            )
        maker, reader = network.hosts
        with _etcd(maker, scratch, *cls.ports[:2]) as endpoint, contextlib.ExitStack() as stack:
            made = [stack.enter_context(cls._daemon(host, scratch, python, endpoint)) for host in (maker, reader)]
            (there, first), (here, second) = made
            yield Served(there, here, [first, second])

    @classmethod
    @contextmanager
    def _daemon(cls, host: Host, scratch: Path, python: Path, endpoint: str) -> Iterator[tuple[str, int]]:
        address, log = str(scratch / f"{host.name}.sock"), scratch / f"{host.name}.log"
        daemon = next(python.parent.parent.glob("lib/python*/site-packages/vineyard/bdist/vineyardd"))
        command = host.command(
            str(daemon),
            *("--meta", "etcd", "--etcd_endpoint", endpoint),
            *("--size", str(_CAPACITY), "--socket", address, "--rpc_socket_port", str(cls.ports[2])),
            *cls.options,
        )
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=scratch, start_new_session=True)
        try:
            vineyard.wait_for_socket(address, process, log)
            yield address, process.pid
        finally:
            stop(process)

    def put(self, value: Any) -> str:
        import vineyard

        handle = super().put(value)
        self._client.persist(vineyard.ObjectID(int(handle)))
        return handle

    def get(self, handle: str) -> Any:
        import vineyard

        # In two steps, since the copy is an object of its own, which nobody else would delete.
        self._copy = self._client.migrate(vineyard.ObjectID(int(handle)))
        return self._client.get(self._copy)

    def delete(self, handle: str) -> None:
        super().delete(handle if self._copy is None else str(int(self._copy)))


class VineyardUncompressed(Vineyard):
    """By default it compresses what migrates, which numbers like these don't repay."""

    label = "vineyard 0.24.2, --compression=false"
    options = ("--compression=false",)
    ports = (2381, 2382, 9601)


class Ray(ray.Ray, Across):
    """A cluster with a node on each host; a driver on one puts, a driver on the other gets."""

    @classmethod
    @contextmanager
    def serve_hosts(cls, network: Network, scratch: Path, python: Path) -> Iterator[Served]:
        maker, reader = network.hosts
        head = f"{maker.address}:6379"
        with (
            cls._node(maker, scratch, python, "--head", "--port=6379", "--include-dashboard=false") as first,
            cls._node(reader, scratch, python, f"--address={head}") as second,
        ):
            there, here = (json.dumps({"head": head, "node": host.address}) for host in (maker, reader))
            yield Served(there, here, [*first, *second])

    @classmethod
    @contextmanager
    def _node(cls, host: Host, scratch: Path, python: Path, *arguments: str) -> Iterator[list[int]]:
        # Both hosts see one file system, but should not see each other's sockets.
        log, folder = scratch / f"{host.name}.log", scratch / host.name
        command = host.command(
            str(python), "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={host.address}",
            "--num-cpus=0", f"--object-store-memory={_CAPACITY}", "--disable-usage-stats", f"--temp-dir={folder}",
            *arguments,
        )  # fmt: skip
        with ray.running(command, log, cls.environment("")) as started:
            yield [pid for pid in started if _is_raylet(pid)]

    def connect(self) -> None:
        import ray

        where = json.loads(self.place)
        ray.init(
            address=where["head"], _node_ip_address=where["node"],
            log_to_driver=False, logging_level="ERROR", configure_logging=False,
        )  # fmt: skip

    def delete_all(self, handles: list[str]) -> None:
        # A process that only got them holds nothing; the copies go when the one that put them lets go.
        super().delete_all([handle for handle in handles if handle in self._owned])


def _is_raylet(pid: int) -> bool:
    from pathlib import Path

    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"
    return False


@contextmanager
def _etcd(host: Host, scratch: Path, port: int, peers_port: int) -> Iterator[str]:
    log = scratch / "etcd.log"
    endpoint, others = (f"http://{host.address}:{each}" for each in (port, peers_port))
    command = host.command(
        *("etcd", "--data-dir", str(scratch / "etcd"), "--initial-cluster", f"default={others}"),
        *("--listen-client-urls", endpoint, "--advertise-client-urls", endpoint),
        *("--listen-peer-urls", others, "--initial-advertise-peer-urls", others),
    )
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while b"serving insecure client requests" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"etcd does not start: {log.read_text(errors='replace')[-300:]}")
            time.sleep(0.05)
        yield endpoint
    finally:
        stop(process)
