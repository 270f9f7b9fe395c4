"""One host's agent and readers on another: network namespaces on this machine, with a bridge between them."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from benches.memory import Sampler, anonymous

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

from host_home import Network, binary  # noqa: E402 - it lives with the tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host_home import Host

GB = 1_000_000_000
MB = 1_000_000
PORT, TLS_PORT = 8733, 8734
READERS, OBJECTS = 500, 100
LISTED = 100_000
IDLE_SECONDS = 20
_TICKS = os.sysconf("SC_CLK_TCK")


def transfer(say: Callable[[str], None], rounds: int) -> dict[str, Any]:
    """1 GB from one host to the other, into a new store and into one in use, beside iperf3 by one stream."""
    with Network("maker", "reader") as network:
        maker, reader = network.hosts
        store = {"path": f"{maker.folder}/store", "capacity_bytes": 2 * GB}
        name = _large(store)
        certificate, key = _certificate(Path(maker.folder), maker)
        tls = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        with (
            agent_on(maker, PORT) as plain,
            agent_on(maker, TLS_PORT, *tls) as secured,
            _Reader(network, reader, f"http://{maker.address}:{PORT}", name, None) as one,
            _Reader(network, reader, f"https://{maker.address}:{TLS_PORT}", name, certificate) as other,
        ):
            found: dict[str, Any] = {"nbytes": GB, "seconds": {}, "first": {}, "cpu": {}, "memory": {}}
            for number in range(rounds + 1):
                say(f"transfer: round {number} of {rounds}")
                raw = iperf(maker, reader)
                if number:
                    found["seconds"].setdefault("iperf3", []).append(raw)
                for way, agent, task in (("plain", plain, one), ("TLS", secured, other)):
                    before = _processor_time(agent.pid)
                    with Sampler({"agent": [agent.pid], "reader": [task.pid]}) as sampler:
                        told = task.fetch()
                    if not told["same"] or told["nbytes"] < GB:
                        raise RuntimeError(f"what came is not what was there: {told}")
                    if not number:
                        found["first"][way] = told["took"]
                        continue
                    found["seconds"].setdefault(way, []).append(told["took"])
                    sides = {"agent": _processor_time(agent.pid) - before, "reader": told["cpu"]}
                    for side, seconds in sides.items():
                        found["cpu"].setdefault(f"{way}, {side}", []).append(seconds)
                    for side, grown in sampler.grown().items():
                        found["memory"].setdefault(f"{way}, {side}", []).append(grown)
    found["median"] = {way: median(took) for way, took in found["seconds"].items()}
    return found


def crowd(say: Callable[[str], None], rounds: int) -> dict[str, Any]:
    """500 readers of 100 objects of 1 MB at once."""
    from airfreight._store import Store

    found: dict[str, Any] = {"took": [], "grown_bytes": []}
    with Network("maker", "reader") as network:
        maker, reader = network.hosts
        store = Store(f"{maker.folder}/store", capacity_bytes=2 * GB)
        names = [_put(store, os.urandom(MB)) for _ in range(OBJECTS)]
        wanted = {"readers": READERS, "names": names, "host": maker.address, "port": PORT, "token": network.token}
        with agent_on(maker, PORT) as agent:
            for number in range(rounds + 1):
                say(f"crowd: round {number} of {rounds}")
                command = reader.command(sys.executable, str(Path(__file__).with_name("crowd.py")), json.dumps(wanted))
                with Sampler({"agent": [agent.pid]}) as sampler:
                    ran = subprocess.run(command, capture_output=True, text=True, check=True)
                told = json.loads(ran.stdout)
                if min(told["nbytes"]) < MB:
                    raise RuntimeError(f"not all came: {sorted(told['nbytes'])[:5]}")
                if number:
                    found["took"].append(told["took"])
                    found["grown_bytes"].append(sampler.grown()["agent"])
    found["median"] = median(median(took) for took in found["took"])
    found["p99"] = median(quantiles(took, n=100)[98] for took in found["took"])
    return found


def idle(say: Callable[[str], None], _: int) -> dict[str, Any]:
    """An agent that nobody asks anything, and one whose store holds 100,000 objects."""
    from airfreight._store import Store

    found: dict[str, Any] = {}
    with Network("one", "full") as network:
        one, full = network.hosts
        say("idle: an agent that nobody asks")
        with agent_on(one, PORT) as agent:
            # What it does when it starts is over by then.
            time.sleep(3)
            before = _wakes(agent.pid)
            time.sleep(IDLE_SECONDS)
            wakes = sum(count - before.get(thread, 0) for thread, count in _wakes(agent.pid).items())
            found["wakes_per_second"] = wakes / IDLE_SECONDS
            found["resident_bytes"] = _resident(agent.pid)
            found["private_bytes"] = anonymous(agent.pid)
        say(f"idle: {LISTED:,} objects")
        store = Store(f"{full.folder}/store", capacity_bytes=4 * GB)
        for number in range(LISTED):
            _put(store, b"%d" % number)
        began = time.perf_counter()
        with agent_on(full, PORT) as agent:
            found["start_seconds"] = time.perf_counter() - began
            found["first_page_seconds"] = _listed(full, network.token)[0]
            pages = [_listed(full, network.token) for _ in range(20)]
            found["page_seconds"] = median(took for took, _ in pages)
            found["page_objects"] = pages[0][1]
            found["full_resident_bytes"] = _resident(agent.pid)
    return found


class _Reader:
    """A task on the other host that is told when to fetch."""

    def __init__(self, network: Network, host: Host, url: str, name: str, authorities: Path | None) -> None:
        wanted = {
            "url": url,
            "token": network.token,
            "authorities": None if authorities is None else str(authorities),
            "name": name,
            "store": {"path": f"{host.folder}/store-{urlsplit(url).scheme}", "capacity_bytes": 5 * GB},
        }
        program = str(Path(__file__).with_name("reader.py"))
        self._process = subprocess.Popen(
            host.command(sys.executable, program, json.dumps(wanted)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._told()

    @property
    def pid(self) -> int:
        return self._process.pid

    def fetch(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("fetch\n")
        self._process.stdin.flush()
        return self._told()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the reader ended with {self._process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def agent_on(host: Host, port: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent, from when it answers until the end."""
    with (host.folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            host.command(binary(), "agent", "--listen", f"{host.address}:{port}", *arguments),
            env=os.environ | host.environment | {"AIRFLOW__AIRFREIGHT__CAPACITY_BYTES": "4 GiB"},
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 120
        while not _connects(host, port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((host.folder / "agent.log").read_text()[-2000:])
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait()


_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()"
_LIST = """
import json, sys, time, http.client
began = time.perf_counter()
connection = http.client.HTTPConnection(sys.argv[1], 8733)
connection.request("GET", "/v1/objects", headers={"Authorization": "Bearer " + sys.argv[2]})
answer = connection.getresponse()
assert answer.status == 200, answer.read()
found = json.load(answer)
print(json.dumps([time.perf_counter() - began, len(found["objects"])]))
"""


def _connects(host: Host, port: int) -> bool:
    command = host.command(sys.executable, "-ISc", _CONNECT, host.address, str(port))
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _listed(host: Host, token: str) -> tuple[float, int]:
    """How long a page of the list takes, and how many objects are on it."""
    command = host.command(sys.executable, "-ISc", _LIST, host.address, token)
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    took, count = json.loads(ran.stdout)
    return took, count


def iperf(maker: Host, reader: Host, nbytes: int = GB) -> float:
    """Seconds for as many bytes by iperf3's single stream, in the direction that values take."""
    if shutil.which("iperf3") is None:
        raise RuntimeError("there is no iperf3 to compare with (Debian: apt install iperf3)")
    server = subprocess.Popen(
        reader.command("iperf3", "--server", "--one-off", "--bind", reader.address), stdout=subprocess.DEVNULL
    )
    try:
        client = maker.command("iperf3", "--client", reader.address, "--bytes", str(nbytes), "--json")
        for _ in range(50):
            ran = subprocess.run(client, capture_output=True, text=True, check=False)
            # What goes wrong it says in its answer, and not always in its status.
            told = json.loads(ran.stdout or "{}").get("end", {}).get("sum_received")
            if told:
                return float(nbytes / (told["bits_per_second"] / 8))
            # It isn't listening yet.
            time.sleep(0.1)
        raise RuntimeError(f"iperf3: {ran.stdout[-500:]} {ran.stderr[-500:]}")
    finally:
        server.kill()
        server.wait()


def _large(options: dict[str, Any]) -> str:
    from airfreight._store import Store

    content = bytearray(os.urandom(GB // 20) * 20)
    content[-8:] = bytes(range(8))
    with Store(options["path"], capacity_bytes=options["capacity_bytes"]).create() as writer:
        writer.write(b"bench")
        writer.add_buffer(content)
        name: str = writer.seal("{}")
        return name


def _put(store: Any, content: bytes) -> str:
    with store.create() as writer:
        writer.write(content)
        name: str = writer.seal("{}")
        return name


def _certificate(folder: Path, host: Host) -> tuple[Path, Path]:
    """A certificate for the host's address that is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "airfreight bench")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host.address))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    private.chmod(0o600)
    return certificate, private


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _wakes(pid: int) -> dict[str, int]:
    """How often each thread of a process has begun to run again after it had waited."""
    found = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            found[status.parent.name] = int(lines["voluntary_ctxt_switches"])
    return found


def _resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
