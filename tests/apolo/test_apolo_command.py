"""`airfreight apolo …`. Method: the binary, and a double of the platform."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from apolo_home import Platform

#: Another build than the installed one, if the variable names it.
BINARY = os.environ.get("AIRFREIGHT_BINARY") or Path(sysconfig.get_path("scripts")) / "airfreight"
RUN = ("run", "--image", "ubuntu", "--preset", "cpu-small")


def environment(platform: Platform) -> dict[str, str]:
    return {"PATH": os.defpath, "APOLO_TOKEN": platform.token, "APOLO_API_URL": platform.api_url}


def command(platform: Platform, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BINARY, "apolo", *arguments],
        env={**environment(platform), **more},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def plan(*steps: dict[str, Any]) -> str:
    return f"plan {json.dumps(steps)}"


def test_a_command_runs_and_its_log_and_code_come_back(platform: Platform) -> None:
    script = "echo $A ü; echo to standard error >&2; exit 3"
    done = command(platform, *RUN, "--env", "A=b c", "--tag", "mine", "--", "sh", "-c", script)
    assert (done.returncode, sorted(done.stdout.splitlines())) == (3, ["b c ü", "to standard error"])
    assert "is failed (exit code 3, Error)" in done.stderr
    assert "mine" in platform.jobs()[-1]["tags"]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_without_a_code_it_is_125(status: str, platform: Platform) -> None:
    end = {"status": status, "reason": "NodeLost", "description": "preempted"}
    done = command(platform, *RUN, "--", plan({"status": "running"}, end))
    assert done.returncode == 125
    assert f"is {status} (NodeLost): preempted" in done.stderr


def test_a_detached_job_is_looked_at_and_cancelled(platform: Platform) -> None:
    started = command(platform, *RUN, "--detach", "--", plan({"status": "running"}, {"log": "a"}, {"sleep": 3600}))
    assert started.returncode == 0
    job_id = started.stdout.strip()
    assert "running" in command(platform, "status", job_id).stdout
    assert command(platform, "kill", job_id).returncode == 0
    told = json.loads(command(platform, "--json", "status", job_id).stdout)
    assert (told["id"], told["history"]["reason"]) == (job_id, "UserRequested")
    assert command(platform, "logs", job_id).stdout == "a\n"


def test_a_job_is_cancelled_by_its_name(platform: Platform) -> None:
    name = f"web{time.time_ns()}"
    command(platform, *RUN, "--name", name, "--detach", "--", plan({"status": "running"}, {"sleep": 3600}))
    assert command(platform, "kill", name).returncode == 0
    assert platform.jobs()[-1]["status"] == "cancelled"


@pytest.mark.parametrize("flags", [(), ("--no-follow",), ("--follow", "--no-follow")])
def test_a_log_is_shown_as_far_as_it_goes(flags: tuple[str, ...], platform: Platform) -> None:
    talking = [step for number in range(200) for step in ({"log": f"later {number}"}, {"sleep": 0.2})]
    steps = [{"status": "running"}, {"log": "a\nb"}, {"sleep": 3}, *talking, {"sleep": 3600}]
    job_id = command(platform, *RUN, "--detach", "--", plan(*steps)).stdout.strip()
    shown = command(platform, "logs", job_id, *flags).stdout.splitlines()
    assert shown[:2] == ["a", "b"]
    # It ended before the job's words did, though they come without a pause.
    assert len(shown) < 150
    assert platform.job(job_id)["status"] == "running"


def test_a_job_without_a_log_has_an_empty_one(platform: Platform) -> None:
    before = len(platform.jobs())
    with subprocess.Popen(
        [BINARY, "apolo", *RUN, "--", plan({"sleep": 3600})], env=environment(platform), stderr=subprocess.DEVNULL
    ) as process:
        platform.wait_for(lambda: platform.jobs()[before:], "the job")
        done = command(platform, "logs", platform.jobs()[before]["id"])
        assert (done.returncode, done.stdout) == (0, "")
        process.send_signal(signal.SIGTERM)


def test_a_log_is_followed_to_the_end_of_its_job(platform: Platform) -> None:
    steps = [{"status": "running"}, {"log": "a"}, {"sleep": 4}, {"log": "b"}, {"status": "succeeded", "exit_code": 0}]
    job_id = command(platform, *RUN, "--detach", "--", plan(*steps)).stdout.strip()
    assert command(platform, "logs", "--follow", job_id).stdout == "a\nb\n"
    assert platform.job(job_id)["status"] == "succeeded"
    assert command(platform, "logs", job_id).stdout == "a\nb\n"


def test_sigterm_cancels_the_job(platform: Platform) -> None:
    before = len(platform.jobs())
    arguments = [BINARY, "apolo", *RUN, "--", plan({"status": "running"}, {"sleep": 3600})]
    with subprocess.Popen(arguments, env=environment(platform), stderr=subprocess.PIPE, text=True) as process:
        platform.wait_for(lambda: platform.jobs()[before:], "the job")
        job_id = platform.jobs()[before]["id"]
        platform.wait_for(lambda: platform.job(job_id)["status"] == "running", "the job to run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 125
    assert platform.job(job_id)["status"] == "cancelled"


def test_a_lost_answer_is_no_second_job(platform: Platform) -> None:
    before = len(platform.jobs())
    platform.fault("POST", "/jobs", kind="lose")
    assert command(platform, *RUN, "--", "true").returncode == 0
    assert len(platform.jobs()) == before + 1


def test_what_fails_is_said_with_a_hint(platform: Platform) -> None:
    unknown = command(platform, "status", "nobody")
    assert unknown.returncode == 1
    assert "there is no job `nobody`" in unknown.stderr
    refused = command(platform, "status", "nobody", APOLO_TOKEN="secret-word")
    assert "refused the credentials (401" in refused.stderr
    assert "secret-word" not in refused.stderr
    nobody = command(platform, *RUN, "--", "true", APOLO_TOKEN="")
    assert nobody.returncode == 125
    assert "there is no token for Apolo\nhint: " in nobody.stderr
