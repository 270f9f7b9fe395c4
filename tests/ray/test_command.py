"""`airfreight ray …` on a real Ray, and Ctrl-C at a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_home import RayHome

BINARY = Path(sysconfig.get_path("scripts")) / "airfreight"
SCRIPT = """
import os
import sys

import helper

files = sorted(set(os.listdir()) - {"__pycache__"})
print("\\x1b[32mhello\\x1b[0m", helper.NAME, os.environ["GREETED"], files, flush=True)
print("to standard error", file=sys.stderr)
print("\\x1eairfreight not for people")
print("no line end", end="")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def environment(ray_home: RayHome, tmp_path: Path) -> dict[str, str]:
    return {"PATH": os.defpath, "HOME": str(tmp_path), "RAY_ADDRESS": ray_home.address}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BINARY, "ray", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def job_id() -> str:
    return f"command-{uuid4().hex[:8]}"


def test_a_folder_runs_on_the_cluster_and_its_log_and_code_come_back(
    run: Callable[..., subprocess.CompletedProcess[str]], ray_home: RayHome, tmp_path: Path, job_id: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "main.py").write_text(SCRIPT)
    (work / "helper.py").write_text("NAME = 'world'")
    (work / "secret.txt").write_text("not for the cluster")
    (work / ".gitignore").write_text("secret.txt\n")
    runtime_env = json.dumps({"env_vars": {"GREETED": "twice or more"}})
    options = ["--working-dir", "work", "--runtime-env-json", runtime_env, "--submission-id", job_id]
    done = run("submit", *options, "--", "python", "main.py", "7")
    assert done.returncode == 7, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-3:] == [
        "\x1b[32mhello\x1b[0m world twice or more ['.gitignore', 'helper.py', 'main.py']",
        "to standard error",
        "no line end",
    ]
    assert f"submitted job {job_id}: {ray_home.address}/#/jobs/{job_id}\n" in done.stderr
    assert f"job {job_id} failed with exit code 7 after " in done.stderr

    assert run("logs", job_id).stdout == done.stdout.removesuffix("\n")
    assert run("logs", "--follow", job_id).stdout == done.stdout
    assert run("logs", "--tail", "1", job_id).stdout == "no line end"
    shown = json.loads(run("status", "--json", job_id).stdout)
    assert shown.pop("url") == f"{ray_home.address}/#/jobs/{job_id}"
    assert shown == ray_home.job(job_id)
    assert job_id in [job["submission_id"] for job in json.loads(run("list", "--json").stdout)]
    again = run("submit", "--submission-id", job_id, "--", "true")
    assert again.returncode == 125
    assert f"the job id `{job_id}` belongs to another job" in again.stderr

    assert run("delete", job_id).returncode == 0
    assert ray_home.job(job_id) is None


def test_a_job_that_is_stopped_from_elsewhere_ends_the_command(
    run: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str], job_id: str
) -> None:
    command = [BINARY, "ray", "submit", "--submission-id", job_id, "--", "echo at work; exec sleep 600"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "at work\n" in iter(waiting.stdout.readline, "")
        assert run("stop", job_id).stdout == f"job {job_id} is over: STOPPED\n"
        assert waiting.wait() == 128 + signal.SIGTERM


class Terminal:
    """A command that has the terminal to itself."""

    def __init__(self, command: list[str | Path], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        # The shell leads a session, so the first terminal that it opens becomes its own, and Ctrl-C a signal.
        script = 'exec "$@" <"$0" >"$0" 2>&1'
        self.process = subprocess.Popen(
            ["sh", "-c", script, os.ttyname(slave), *command], env=env, stdin=subprocess.DEVNULL, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            try:
                self.shown += os.read(self._master, 4096).decode()
            except OSError:  # nobody has the terminal open: not yet, or not any more
                assert words in self.shown or self.process.poll() is None, self.shown
                time.sleep(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(environment: dict[str, str], job_id: str) -> Iterator[Terminal]:
    command = [BINARY, "ray", "submit", "--submission-id", job_id, "--", "echo at work; exec sleep 600"]
    terminal = Terminal(command, environment)
    try:
        terminal.wait_for("at work\r\n")
        yield terminal
    finally:
        terminal.close()


CTRL_C, CTRL_BACKSLASH = b"\x03", b"\x1c"


def test_ctrl_c_asks_and_a_second_one_stops_the_job(terminal: Terminal, ray_home: RayHome, job_id: str) -> None:
    terminal.press(CTRL_C)
    terminal.wait_for(f"job {job_id} still runs: Ctrl-C again stops it, Ctrl-\\ leaves it running")
    job = ray_home.job(job_id)
    assert job is not None
    assert job["status"] == "RUNNING"
    terminal.press(CTRL_C)
    terminal.wait_for(f"stopping job {job_id}")
    terminal.wait_for(f"job {job_id} was stopped after ")
    assert terminal.process.wait() == 128 + signal.SIGTERM
    job = ray_home.job(job_id)
    assert job is not None
    assert job["status"] == "STOPPED"


def test_ctrl_backslash_leaves_the_job_running(
    terminal: Terminal, ray_home: RayHome, job_id: str, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    terminal.press(CTRL_BACKSLASH)
    terminal.wait_for(f"left job `{job_id}` as it was")
    assert terminal.process.wait() == 125
    job = ray_home.job(job_id)
    assert job is not None
    assert job["status"] == "RUNNING"
    assert re.fullmatch(f"job {job_id} is (over: STOPPED|being stopped: .*)\n", run("stop", job_id).stdout)
