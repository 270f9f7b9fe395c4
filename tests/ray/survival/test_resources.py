"""
Goal: a call with a GPU has a process and a GPU for itself, and one that takes too much memory ends alone and says so.
Method: a Ray with logical GPUs, whose memory monitor ends processes a little above what is in use now.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ray_home import RayHome

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from runner_client import Run, RunnerHome

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: What a call may take beyond what this machine uses when the cluster starts, and what one tries to take at most.
#: When memory runs short, Ray frees 5 % of it, which is to be less than what the greedy call has by then.
ROOM_BYTES = 4 * 1024**3
GREED_BYTES = 8 * 1024**3


def memory() -> tuple[int, int]:
    """How much memory there is, and how much of it is free."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return facts["MemTotal"], facts["MemAvailable"]


@pytest.fixture(scope="module")
def runner(request: pytest.FixtureRequest) -> Iterator[RunnerHome]:
    total, available = memory()
    if available < GREED_BYTES + ROOM_BYTES:
        pytest.skip(f"{available >> 30} GiB of memory are free, and a call is to take {GREED_BYTES >> 30}")
    env = {
        "RAY_memory_usage_threshold": f"{(total - available + ROOM_BYTES) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    with RayHome.start(num_gpus=2, env=env) as ray:
        home = RunnerHome(ray)
        home.start()
        yield home
        home.close()
        ray.keep = bool(request.session.testsfailed)


@pytest.fixture
def run(runner: RunnerHome) -> Iterator[Run]:
    run = Run(runner)
    yield run
    run.end()


def where() -> list[Any]:
    return [os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")]


def greedy(nbytes: int, path: str) -> int:
    with Path(path).open("a") as file:
        file.write("ran\n")
    print("taking it all", flush=True)
    taken = []
    while len(taken) << 26 < nbytes:
        taken.append(bytearray(os.urandom(1024)) * (1 << 16))
    return len(taken)


def test_each_call_with_a_gpu_has_a_process_and_a_gpu_for_itself(run: Run) -> None:
    pooled = [run.result(where)[0] for _ in range(3)]
    found = [run.result(where, options={"num_cpus": 0, "num_gpus": 1}) for _ in range(3)]
    pids = [pid for pid, _ in found]
    assert len(set(pids)) == 3
    assert not set(pids) & set(pooled)
    assert {gpu for _, gpu in found} <= {"0", "1"}
    both = run.result(where, options={"num_cpus": 0, "num_gpus": 2})
    assert sorted(both[1].split(",")) == ["0", "1"]


@pytest.mark.parametrize("eager", [False, True])
def test_who_takes_too_much_memory_ends_alone_and_once(
    run: Run, runner: RunnerHome, tmp_path: Path, eager: bool
) -> None:
    other = run.begin(run.wanted(waiting, [str(tmp_path / "go")]))
    run.running(other)
    state = run.call(greedy, GREED_BYTES, str(tmp_path / "runs"), eager=eager)
    assert (state["status"], state["error_type"]) == ("FAILED", "OUT_OF_MEMORY"), state
    assert "memory" in state["message"]
    assert (tmp_path / "runs").read_text() == "ran\n"
    os.kill(runner.about["pid"], 0)
    if eager:
        # Ray ends what it may run again, as other calls, before an actor.
        run.wait(other)
        return
    assert state["tail"] == "taking it all\n"
    (tmp_path / "go").touch()
    assert run.wait(other)["record"]["result"] == {"json": "went on"}


def waiting(path: str) -> str:
    import time

    while not Path(path).exists():
        time.sleep(0.05)
    return "went on"
