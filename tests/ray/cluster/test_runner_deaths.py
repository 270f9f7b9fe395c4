"""
Goal: whatever dies, the task is told what, and nothing else is harmed.

Method: functions that end their process, and SIGKILL for the runner, an owner, a node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runner_client import Input, RefusedError, Run, RunnerHome

from ray_home import guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow


def exiting(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("ran\n")
    print("the last words", flush=True)
    os._exit(3)


def crashing() -> None:
    import ctypes

    ctypes.string_at(0)


def leaving() -> None:
    raise SystemExit(4)


def sleeping() -> None:
    print("asleep", flush=True)
    time.sleep(600)


def stubborn() -> None:
    print("asleep", flush=True)
    while True:
        try:
            time.sleep(600)
        except BaseException:
            continue


def numbers(count: int) -> Any:
    import numpy as np

    return np.arange(count)


def noted_numbers(path: str, count: int) -> Any:
    with Path(path).open("a") as file:
        file.write("ran\n")
    return numbers(count)


def total(array: Any) -> int:
    return int(array.sum())


def test_a_function_that_ends_its_process_is_not_run_again(run: Run, tmp_path: Path) -> None:
    value = run.result(numbers, 10_000)
    state = run.call(exiting, str(tmp_path / "runs"))
    assert (state["status"], state["error_type"]) == ("FAILED", "WORKER_CRASHED")
    assert "process" in state["message"]
    assert state["tail"] == "the last words\n"
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert run.result(total, value) == 49_995_000


def test_a_crash_shows_where(run: Run) -> None:
    state = run.call(crashing)
    assert (state["status"], state["error_type"]) == ("FAILED", "WORKER_CRASHED")
    assert "Segmentation fault" in state["tail"]


def test_sys_exit_is_an_exception(run: Run) -> None:
    state = run.call(leaving)
    assert state["record"]["error"]["type"] == "SystemExit"


def test_a_sleeping_function_is_interrupted(run: Run) -> None:
    state = run.running(run.begin(run.wanted(sleeping)))
    assert run.cancel(state["id"])
    state = run.wait(state)
    assert (state["status"], state["error_type"]) == ("STOPPED", "CANCELLED")
    # By itself, and not by force.
    assert state["record"]["error"]["type"] == "KeyboardInterrupt"
    assert not run.cancel(state["id"])


def test_a_function_that_goes_on_is_killed(run: Run) -> None:
    state = run.running(run.begin(run.wanted(stubborn)))
    assert run.cancel(state["id"])
    state = run.wait(state)
    assert (state["status"], state["error_type"], state["record"]) == ("STOPPED", "CANCELLED", None)


def test_an_eager_function_is_interrupted(run: Run) -> None:
    state = run.running(run.begin(run.wanted(sleeping, eager=True)))
    assert run.cancel(state["id"])
    assert run.wait(state)["status"] == "STOPPED"


def test_a_call_that_waits_for_room_is_cancelled(run: Run) -> None:
    state = run.begin(run.wanted(sleeping, options={"num_cpus": 1000}))
    assert state["status"] == "PENDING"
    assert run.cancel(state["id"])
    assert run.wait(state)["status"] == "STOPPED"


def test_a_killed_runner_picks_up_what_there_is(runner: RunnerHome) -> None:
    run = Run(runner)
    value = run.result(numbers, 10_000)
    sleeper = run.running(run.begin(run.wanted(sleeping)))
    before = runner.about
    os.kill(before["pid"], signal.SIGKILL)
    runner.find(after=before["epoch"])
    assert runner.about["generation"] == before["generation"]
    assert runner.about["token"] != before["token"]
    assert run.result(total, value) == 49_995_000
    assert run.state(sleeper["id"])["status"] == "RUNNING"
    assert run.cancel(sleeper["id"])
    assert run.name in [owner["name"] for owner in run.ask("GET", "/v1/owners")["owners"]]
    run.wait(sleeper)
    run.end()


def test_what_a_killed_owner_had_is_lost(run: Run, runner: RunnerHome) -> None:
    other = Run(runner)
    value = other.result(numbers, 10_000)
    assert runner.request("GET", other.value_path(value))["state"] == "there"
    other.end()
    state = run.call(total, value)
    assert (state["status"], state["error_type"]) == ("FAILED", "INPUT_LOST")
    assert value.value["key"] in state["message"]
    assert runner.request("GET", other.value_path(value)) == {"state": "gone"}
    with pytest.raises(RefusedError) as refused:
        other.state("af-none")
    assert refused.value.kind == "Lost"
    # The run goes on, with another owner.
    again = other.result(numbers, 10_000)
    assert again.value["generation"] != value.value["generation"]
    assert other.call(total, value)["error_type"] == "INPUT_LOST"
    other.end()


@pytest.fixture
def far_node(runner: RunnerHome) -> Iterator[Callable[[], Callable[[], None]]]:
    """Adds a node to the cluster that alone has the resource ``far``; what it gives kills that node."""
    started: list[subprocess.Popen[bytes]] = []

    def kill(process: subprocess.Popen[bytes]) -> None:
        for pid in [*guardian.descendants(process.pid), process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()

    def start() -> Callable[[], None]:
        ray = runner.ray
        command = [str(ray.venv / "bin" / "ray"), "start", f"--address={ray.gcs_address}", "--block", "--num-cpus=1"]
        command += ['--resources={"far": 1}', f"--object-store-memory={100 * 1024 * 1024}", "--disable-usage-stats"]
        command += ["--min-worker-port=0", "--max-worker-port=0", "--node-ip-address=127.0.0.1"]
        process = subprocess.Popen(
            command, env=ray.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        started.append(process)
        return lambda: kill(process)

    yield start
    for process in started:
        if process.poll() is None:
            kill(process)


def test_a_value_of_a_lost_node_is_made_anew(
    run: Run, far_node: Callable[[], Callable[[], None]], tmp_path: Path
) -> None:
    kill = far_node()
    far = {"resources": {"far": 0.1}}
    path = tmp_path / "runs"
    value = run.result(noted_numbers, str(path), 1_000_000, options=far)
    assert path.read_text() == "ran\n"
    kill()
    far_node()
    assert run.result(total, Input(value.value)) == 499_999_500_000
    assert path.read_text() == "ran\nran\n"
