"""
One value from a process on one host to a process on another, by Airfreight, vineyard and Ray in turn.

Every round, each peer takes its turn, beginning with another one each time: a process on the first host puts, one on
the second gets; both are connected already, and have passed on a value of that size before. The clock stands on the
second host, from asking until the value is in hand (*get*), and until all of it was read (*+ read*). Before each round
iperf3 moves as many bytes by one stream. In the first turn, which isn't counted, the bytes that come are compared with
those that were put.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benches import venvs
from benches.agent import measure, peers
from benches.memory import Sampler
from benches.tasks import ROOT, StepError, Task
from benches.values import CASES, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host_home import Host

PEERS: dict[str, type[peers.Across]] = {
    "airfreight": peers.Airfreight,
    "vineyard": peers.Vineyard,
    "vineyard_uncompressed": peers.VineyardUncompressed,
    "ray": peers.Ray,
}
_CASES = tuple(case for case in CASES if case.name in ("array_100mb", "array_1gb", "frame_numeric"))
_LOG_BYTES = 300


def exchange(say: Callable[[str], None], rounds: int) -> dict[str, Any]:
    """100 MB and 1 GB of numbers, and a frame of 100 MB, from one host to the other by each peer."""
    found: dict[str, Any] = {"peers": {}, "cases": {}}
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(measure.Network("maker", "reader"))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airfreight-bench-", dir="/dev/shm")))
        pairs: dict[str, _Pair] = {}
        for name, peer in PEERS.items():
            say(f"hosts: {peer.label} starts")
            about = found["peers"][name] = {"label": peer.label, "missing": None}
            try:
                pairs[name] = stack.enter_context(_pair(peer, network, scratch / name))
            except (OSError, RuntimeError, StepError) as error:
                about["missing"] = str(error)
        for case in _CASES:
            say(f"hosts: {case.label}")
            found["cases"][case.name] = _case(case, pairs, network, rounds)
    return found


class _Pair:
    """A peer's processes on both hosts."""

    def __init__(self, maker: Task, reader: Task, servers: list[int]) -> None:
        self._maker, self._reader, self._servers = maker, reader, servers

    def pass_on(self, case: Case, found: dict[str, Any], *, is_counted: bool) -> None:
        """One turn. What it made is gone from both hosts when it is over."""
        # Made anew for each turn: a gigabyte for every peer at once would not fit.
        self._maker.run(["make", case.kind, case.nbytes])
        sides = {"reader": [self._reader.pid], "servers": self._servers}
        try:
            put = self._maker.run("put")
            with Sampler(sides) as sampler:
                got = self._reader.run("get", "touch", handle=put.handle)
            if not is_counted:
                found["changed"] = self._reader.run(["difference", case.kind, case.nbytes]).results["difference"]
                if self._reader.run("digest").results != self._maker.run("digest").results:
                    raise StepError("other bytes came than were sent")
            self._reader.run("drop_got", "delete")
            self._maker.run("delete")
        finally:
            self._maker.run("drop")
        if is_counted:
            get, touch = got.seconds["get"], got.seconds["touch"]
            for step, seconds in (("put", put.seconds["put"]), ("get", get), ("get_touch", get + touch)):
                found["seconds"].setdefault(step, []).append(seconds)
            for side, grown in sampler.grown().items():
                found["memory"].setdefault(side, []).append(grown)


def _case(case: Case, pairs: dict[str, _Pair], network: measure.Network, rounds: int) -> dict[str, Any]:
    series: dict[str, Any] = {name: {"seconds": {}, "memory": {}, "changed": None, "error": None} for name in pairs}
    found = {"label": case.label, "nbytes": case.nbytes, "iperf3": [], "peers": series}
    for number in range(rounds + 1):
        raw = measure.iperf(*network.hosts, case.nbytes)
        if number:
            found["iperf3"].append(raw)
        order = list(pairs)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            if series[name]["error"]:
                continue
            try:
                pairs[name].pass_on(case, series[name], is_counted=number > 0)
            except (StepError, OSError) as error:
                series[name]["error"] = str(error)
    for one in series.values():
        one["median"] = {step: median(seconds) for step, seconds in one["seconds"].items()}
    return found


@contextmanager
def _pair(peer: type[peers.Across], network: measure.Network, scratch: Path) -> Iterator[_Pair]:
    """
    Starts a peer on both hosts.

    :raises RuntimeError: it can't be had here, or doesn't start.
    :raises StepError: its processes can't connect.
    """
    venvs.install(peer, lambda _: None)
    python = ROOT / peer.venv / "bin" / "python"
    scratch.mkdir()
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(peer.serve_hosts(network, scratch, python))
        tasks = []
        for host, place in zip(network.hosts, (served.maker, served.reader), strict=True):
            task = stack.enter_context(_task(peer, host, place, scratch, python))
            task.run("load", "connect")
            tasks.append(task)
        yield _Pair(*tasks, served.servers)


@contextmanager
def _task(peer: type[peers.Across], host: Host, place: str, scratch: Path, python: Path) -> Iterator[Task]:
    """A process of a peer on a host."""
    address, log = scratch / f"{host.name}-task.sock", scratch / f"{host.name}-task.log"
    name = f"{peer.__module__}:{peer.__name__}"
    # Files are the same on all hosts, and so are sockets that are files.
    with socket.socket(socket.AF_UNIX) as listener, log.open("wb") as output:
        listener.bind(str(address))
        listener.listen(1)
        listener.settimeout(60)
        process = subprocess.Popen(
            host.command(str(python), "-m", "benches.worker", name, str(address)),
            env=os.environ | host.environment | {"OPENBLAS_NUM_THREADS": "1"} | peer.environment(place),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT,
        )  # fmt: skip
        try:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                said = log.read_text(errors="replace")[-_LOG_BYTES:]
                raise RuntimeError(f"a process of {peer.label} does not come up: {said}") from None
            connection.settimeout(300)
            task = Task(connection, place)
            try:
                yield task
            finally:
                task.end()
        finally:
            process.kill()
            process.wait()
