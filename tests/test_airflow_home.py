"""The harness itself: whatever happens, it stops what it started and says what went wrong."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome, AirflowHomeError, ComponentDiedError, components
from airflow_home.components import Components

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TESTS = Path(__file__).parent
HANGS = """
from airflow.sdk import dag, task

@dag
def hangs():
    @task
    def wait_in_a_child():
        import subprocess
        subprocess.run(["sleep", "600"])

    wait_in_a_child()

hangs()
"""


def test_leaving_stops_every_process_and_removes_the_folder(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    with AirflowHome(tmp_path) as airflow:
        run_id = airflow.trigger("hangs")
        airflow.wait_for_state("hangs", run_id, "wait_in_a_child", "running")
        wait_until(lambda: "sleep" in names_of(airflow.components["scheduler"].members()))
        pids = [pid for component in airflow.components.values() for pid in component.members()]
    assert len(pids) > len(components_of_airflow())
    assert alive(pids) == []
    assert not airflow.folder.exists()


def test_a_component_that_ended_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "scheduler.log"
    with Components() as running:
        running.start("scheduler", ["sh", "-c", "echo out of luck; exit 3"], env={}, log=log)
        with pytest.raises(ComponentDiedError, match=r"airflow scheduler exited with 3") as caught:
            wait_until(lambda: running.check() is not None)
    assert "out of luck" in str(caught.value)
    assert str(log) in str(caught.value)


def test_what_ignores_the_request_to_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "STOP_SECONDS", 0.2)
    # The child has a process group of its own, as Airflow's tasks have.
    script = "trap '' TERM; set -m; (trap '' TERM; echo ready; while :; do sleep 600; done) & wait"
    log = tmp_path / "stubborn.log"
    with Components() as running:
        component = running.start("stubborn", ["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, log=log)
        wait_until(lambda: "ready" in log.read_text())
        pids = component.members()
        assert len(pids) >= 2
    assert alive(pids) == []


def test_components_die_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from airflow_home.components import Components
running = Components()
print(running.start("lasting", ["sleep", "600"], env={{}}, log=Path("lasting.log").absolute()).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as harness:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        assert alive([pid]) == [pid]
        harness.send_signal(signal.SIGKILL)
    wait_until(lambda: alive([pid]) == [])


def test_an_environment_without_airflow_is_named(tmp_path: Path) -> None:
    home = AirflowHome(tmp_path, venv=tmp_path)
    try:
        with pytest.raises(AirflowHomeError, match=f"no Airflow in {tmp_path}") as caught, home:
            pass
        assert caught.value.__notes__ == [f"the logs of this Airflow are in {home.folder}"]
        assert home.folder.is_dir()
    finally:
        shutil.rmtree(home.folder)


def components_of_airflow() -> list[str]:
    return ["api-server", "scheduler", "dag-processor", "triggerer"]


def alive(pids: Iterable[int]) -> list[int]:
    """Those of the processes that run; what has ended and waits for its parent does not."""
    return [pid for pid in pids if state_of(pid) not in (None, "Z", "X")]


def state_of(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def names_of(pids: Iterable[int]) -> list[str]:
    names = []
    for pid in pids:
        try:
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return names


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
