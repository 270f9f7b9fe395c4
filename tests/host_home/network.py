"""Three hosts on one machine: network namespaces that reach each other over a bridge in a fourth."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PORT = 8733
#: The last part of this machine's address, where it takes part.
_OUTSIDE = 254

_TASK = Path(__file__).with_name("task.py")

#: Gives the command a host's name, and names to the hosts.
_ENTER = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'


def missing() -> str | None:
    """Why there can be no hosts here; ``None`` where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "tc", "unshare"):
        if shutil.which(program) is None:
            return f"network namespaces need `{program}` (iproute2, util-linux)"
    name = f"af-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return "this kernel, or its container, makes no network namespaces"
    _run("ip", "netns", "delete", name)
    return None


def binary() -> str:
    """The ``airfreight`` program: the installed one, unless another is being worked on."""
    beside = Path(sysconfig.get_path("scripts")) / "airfreight"
    return os.environ.get("AIRFREIGHT_BINARY") or str(beside)


class Network:
    """
    Hosts that reach each other, and nothing else.

    :param names: what they are called.
    """

    def __init__(self, *names: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="airfreight-hosts-", dir="/dev/shm"))
        self._bridge = f"af{secrets.token_hex(4)}"
        self.token = secrets.token_hex(16)
        (self._folder / "token").write_text(self.token + "\n")
        numbered = list(enumerate(names, 1))
        known = ["127.0.0.1 localhost", "::1 localhost"]
        # Addresses for tests of networks (RFC 2544); not those of another test in which this machine takes part.
        place = secrets.randbelow(512)
        self._subnet = f"198.{18 + place // 256}.{place % 256}"
        known += [f"{self._subnet}.{number} {name}\nfd77::{number} {name}" for number, name in numbered]
        (self._folder / "hosts").write_text("\n".join(known) + "\n")
        self.hosts: list[Host] = []
        _run("ip", "netns", "add", self._bridge)
        try:
            _run("ip", "-n", self._bridge, "link", "add", "br0", "type", "bridge")
            _run("ip", "-n", self._bridge, "link", "set", "br0", "up")
            self.hosts += [Host(self._folder, self._bridge, self._subnet, name, number) for number, name in numbered]
        except BaseException:
            self.close()
            raise

    def join(self) -> str:
        """Let this machine take part, so that hosts reach what listens here; gives its address among them."""
        outside = f"{self._bridge}-out"
        address = f"{self._subnet}.{_OUTSIDE}"
        peer = ("type", "veth", "peer", "name", "outside", "netns", self._bridge)
        _run("ip", "link", "add", outside, *peer)
        # Goes with the namespace of its other end.
        _run("ip", "-n", self._bridge, "link", "set", "outside", "master", "br0", "up")
        _run("ip", "address", "add", f"{address}/24", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        return address

    def close(self) -> None:
        """Stop what runs and remove everything."""
        for host in self.hosts:
            host.close()
        _run("ip", "netns", "delete", self._bridge)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Host:
    """A namespace with a store, and an agent when it was started."""

    def __init__(self, folder: Path, bridge: str, subnet: str, name: str, number: int) -> None:
        self.name, self.address, self.address6 = name, f"{subnet}.{number}", f"fd77::{number}"
        self._namespace, self._bridge, self._port = f"{bridge}-{number}", bridge, f"host{number}"
        self._shared, self.folder = folder, folder / name
        self.folder.mkdir()
        self._agent: subprocess.Popen[bytes] | None = None
        self._tasks: list[subprocess.Popen[str]] = []
        self.environment = {
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__AIRFREIGHT__STORE_PATH": str(self.folder / "store"),
            "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(self.folder / "spill"),
            "AIRFLOW__AIRFREIGHT__CAPACITY_BYTES": "1 GiB",
            "AIRFLOW__AIRFREIGHT__SECRET_KEY": "the-key-that-all-hosts-share",
            "AIRFLOW__AIRFREIGHT__AGENT_URL": f"http://{{host}}:{PORT}",
            "AIRFLOW__AIRFREIGHT__AGENT_TOKEN_FILE": str(folder / "token"),
            "HOST_IP": self.address,
            "HOST_IP6": self.address6,
        }
        _run("ip", "netns", "add", self._namespace)
        self._in("ip", "link", "set", "lo", "up")
        peer = ("type", "veth", "peer", "name", self._port, "netns", bridge)
        _run("ip", "-n", self._namespace, "link", "add", "eth0", *peer)
        _run("ip", "-n", bridge, "link", "set", self._port, "master", "br0", "up")
        _run("ip", "-n", self._namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _run("ip", "-n", self._namespace, "-6", "address", "add", f"{self.address6}/64", "dev", "eth0", "nodad")
        _run("ip", "-n", self._namespace, "link", "set", "eth0", "up")

    def close(self) -> None:
        """Stop what runs on it, and remove it."""
        for task in self._tasks:
            if task.poll() is None:
                task.kill()
            task.communicate()
        self.kill_agent()
        _run("ip", "netns", "delete", self._namespace)

    def command(self, *command: str) -> list[str]:
        """A command as this host runs it."""
        enter = ("unshare", "--uts", "--mount", "sh", "-c", _ENTER, "sh", self.name, str(self._shared / "hosts"))
        return ["ip", "netns", "exec", self._namespace, *enter, *command]

    # The agent

    def start_agent(self, *arguments: str) -> None:
        """Start the agent, and wait until it is ready."""
        listen = f"{self.address}:{PORT},[{self.address6}]:{PORT}"
        with (self.folder / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                self.command(binary(), "agent", "--listen", listen, *arguments),
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self._until(lambda: self.ask("/v1/ready") is not None, "the agent is ready")

    def stop_agent(self) -> None:
        """Ask the agent to end, and wait until it has."""
        self._end_agent(signal.SIGTERM)

    def kill_agent(self) -> None:
        """End the agent in the middle of whatever it does."""
        self._end_agent(signal.SIGKILL)

    def _end_agent(self, how: signal.Signals) -> None:
        if self._agent is not None:
            self._agent.send_signal(how)
            self._agent.wait()
            self._agent = None

    def ask(self, path: str) -> str | None:
        """What this host's agent answers here; ``None``: nothing."""
        # Namespaces are a thread's; a process that asks from within is simpler than changing ours.
        token = (self._shared / "token").read_text().split()[0]
        code = (
            "import sys, urllib.request as u; "
            "print(u.build_opener(u.ProxyHandler({})).open(u.Request(sys.argv[1], "
            "headers={'Authorization': 'Bearer ' + sys.argv[2]}), timeout=5).read().decode(), end='')"
        )
        url = f"http://{self.address}:{PORT}{path}"
        asked = subprocess.run(
            self.command(sys.executable, "-I", "-S", "-c", code, url, token),
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout if asked.returncode == 0 else None

    def metric(self, line: str) -> float:
        """The number of a line of the agent's metrics."""
        for found in (self.ask("/metrics") or "").splitlines():
            if found.startswith(line + " "):
                return float(found.rpartition(" ")[2])
        raise LookupError(line)

    # Its link

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told."""
        _run("ip", "-n", self._bridge, "link", "set", self._port, "down")

    def mend(self) -> None:
        """The link carries again."""
        _run("ip", "-n", self._bridge, "link", "set", self._port, "up")

    def throttle(self, rate: str) -> None:
        """What it sends goes no faster, such as ``200mbit``."""
        self._in(
            "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"
        )

    # Its tasks

    def task(self, what: str, argument: Any = None, settings: Mapping[str, str] | None = None) -> Task:
        """Start a task: one of the functions of ``task.py``, with this argument, in a process of its own."""
        overridden = {f"AIRFLOW__AIRFREIGHT__{name.upper()}": value for name, value in (settings or {}).items()}
        process = subprocess.Popen(
            self.command(sys.executable, str(_TASK), what),
            env=os.environ | self.environment | overridden,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._tasks.append(process)
        assert process.stdin is not None
        process.stdin.write(json.dumps(argument))
        process.stdin.close()
        process.stdin = None
        return Task(process)

    def _in(self, *command: str) -> None:
        _run("ip", "netns", "exec", self._namespace, *command)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(300):
            if condition():
                return
            if self._agent is not None and self._agent.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"{self.name}: not {what}: {(self.folder / 'agent.log').read_text()[-2000:]}")


class Task:
    """A task that runs on a host."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def end(self) -> dict[str, Any]:
        """Wait for it: ``result``, or ``error`` with ``message`` and ``hint``; and ``log``."""
        out, err = self._process.communicate(timeout=300)
        try:
            # Airflow says things on standard output, too, when it is first imported.
            answer: dict[str, Any] = json.loads(out.strip().rpartition("\n")[2])
        except ValueError:
            raise RuntimeError(f"the task broke down: {out[-1000:]}\n{err[-3000:]}") from None
        return answer | {"log": err}


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
