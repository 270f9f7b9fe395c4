"""The Ray of the tests: it takes jobs, meets no other one, and is gone without a trace afterwards."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ray_home import RayHome, RayHomeError, guardian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: What no signal but SIGKILL ends, in a session of its own below a driver, which is in one of its own as well.
STUBBORN = """python -c "
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.run(['sleep', '600'], start_new_session=True)
" """


@pytest.mark.timeout(900)
def test_two_clusters_run_side_by_side_and_leave_nothing() -> None:
    with RayHome.start() as one, RayHome.start(token="open sesame") as other:
        for ray in (one, other):
            ray.request("POST", "/api/jobs/", {"entrypoint": "echo $RAY_ADDRESS", "submission_id": "same"})
        for ray in (one, other):
            assert ray.wait_for_job("same")["status"] == "SUCCEEDED"
            assert f":{ray.ports['gcs']}\n" in ray.log("same")
        assert len(one.jobs()) == len(other.jobs()) == 1

        other.token = None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            other.jobs()

        one.request("POST", "/api/jobs/", {"entrypoint": STUBBORN, "submission_id": "stubborn"})
        wait_until(lambda: "sleep" in commands_of(one.pids))
        pids = one.pids
        session = one.request("GET", "/api/version")["session_name"]
        one.restart()
        assert alive(pids) == []
        assert one.job("same") is None
        assert one.request("GET", "/api/version")["session_name"] != session

        pids = one.pids + other.pids
        assert len(pids) > 20
    assert alive(pids) == []
    assert not one.folder.exists()
    assert not other.folder.exists()


def test_everything_dies_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    """The daemon has left its parent, its session and its process group."""
    daemon = "(setsid sh -c 'echo $$ > daemon.pid; exec sleep 600' &) ; echo $$ > pid; exec sleep 600"
    script = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, {guardian.__file__!r}, "log", "sh", "-c", {daemon!r}],
                 stdin=subprocess.PIPE, start_new_session=True)
time.sleep(600)
"""
    files = [tmp_path / "daemon.pid", tmp_path / "pid"]
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path) as harness:
        wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files))
        pids = [int(file.read_text()) for file in files]
        assert alive(pids) == pids
        harness.send_signal(signal.SIGKILL)
    wait_until(lambda: alive(pids) == [])


def test_what_keeps_ray_from_starting_is_said(tmp_path: Path) -> None:
    with pytest.raises(RayHomeError, match=f"no Ray in {tmp_path}: `make ray` installs it"):
        RayHome.start(venv=tmp_path)
    with pytest.raises(RayHomeError, match="too long for Ray's sockets"):
        RayHome.start(tmp_path / ("x" * 50))


def test_a_start_that_fails_is_tried_again_and_then_explained(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "ray"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho $3 is out of luck\nexit 3\n")
    program.chmod(0o700)
    with pytest.raises(RayHomeError, match=r"ray start ended with 3; the end of .*ray-start\.log:") as caught:
        RayHome.start(venv=tmp_path)
    assert str(caught.value).count("--block is out of luck") == 3
    folder = re.search(r"(/tmp/airfreight-ray-\w+)/", str(caught.value))
    assert folder is not None
    shutil.rmtree(folder[1])


def alive(pids: Iterable[int]) -> list[int]:
    """Those of the processes that run; what has ended and waits for its parent does not."""
    states = {}
    for pid in pids:
        try:
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid, state in states.items() if state not in ("Z", "X")]


def commands_of(pids: Iterable[int]) -> list[str]:
    commands = []
    for pid in pids:
        try:
            commands.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return commands


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
