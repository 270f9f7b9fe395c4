"""
Goal: what our client posts is what the platform's own SDK posts.

Method: some sixty jobs, described once; the unmodified SDK creates each on the double of the platform, which tells what
has arrived; ours must be equal. Where it isn't on purpose, the exception stands below with its reason.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._remote import ApoloClient
from airfreight.errors import InvalidError
from apolo_home import VENV, Platform

if TYPE_CHECKING:
    from collections.abc import Iterator

PRESET = {"image": "ubuntu", "command": "true", "preset": "cpu-small"}
OWN = {"image": "ubuntu", "command": "true", "resources": {"memory": 1 << 30, "cpu": 1.0, "shm": True}}


def resources(**more: Any) -> dict[str, Any]:
    return {"resources": {**OWN["resources"], **more}}  # type: ignore[dict-item]


#: What both ways of asking for resources have.
COMMON: dict[str, dict[str, Any]] = {
    "bare": {},
    "no-command": {"command": None},
    "empty-command": {"command": ""},
    "shell": {"command": "sh -c 'echo \"$A\" | tee x; exit 3'"},
    "unicode": {"command": "echo äöü 😀", "description": "für später"},
    "entrypoint": {"entrypoint": "/bin/sh -c"},
    "working-dir": {"working_dir": "/a b"},
    "name": {"name": "my-job"},
    "tags": {"tags": ["a", "b:c", "ä"]},
    "description": {"description": "words"},
    "tty": {"tty": True},
    "port": {"http_port": 8080},
    "port-open": {"http_port": 80, "http_auth": False},
    "env": {"env": {"A": "b", "EMPTY": "", "EQUALS": "a=b", "UNI": "ü"}},
    "env-secret": {"env": {"A": "b", "S": "secret:key"}},
    "secret-env": {"secret_env": {"S": "secret:/side/key", "T": "secret://second/org/p2/key"}},
    "volume": {"volumes": ["storage:data:/data"]},
    "volume-modes": {"volumes": ["storage:a:/a:ro", "storage:b:/b:rw"]},
    "volume-root": {"volumes": ["storage::/all"]},
    "volume-project": {"volumes": ["storage:/side/data:/data"]},
    "volume-full": {"volumes": ["storage://second/org/p2/data:/data:ro"]},
    "volume-blank": {"volumes": ["storage:my data/100%25/ü:/data"]},
    "volume-slash": {"volumes": ["storage:data/:/data"]},
    "disk": {"volumes": ["disk:scratch:/scratch", "disk:disk-1:/ro:ro"]},
    "secret-file": {"volumes": ["secret:key:/key"]},
    "volumes-mixed": {"volumes": ["storage:a:/a", "secret:k:/k", "disk:d:/d", "storage:b:/b"]},
    "life-span": {"life_span": 3600.0},
    "schedule-timeout": {"schedule_timeout": 90.5},
    "restart-on-failure": {"restart_policy": "on-failure"},
    "restart-always": {"restart_policy": "always"},
    "restart-never": {"restart_policy": "never"},
    "priority-low": {"priority": "low"},
    "priority-high": {"priority": "high"},
    "pass-config": {"pass_config": True},
    "wait-for-quota": {"wait_for_quota": True},
    "image-tag": {"image": "python:3.12-slim"},
    "image-hub": {"image": "library/team/python:1"},
    "image-registry": {"image": "ghcr.io/team/python:1"},
    "image-own": {"image": "image:mine:1"},
    "image-own-latest": {"image": "image:mine"},
    "image-own-project": {"image": "image:/side/mine:1"},
    "image-own-folder": {"image": "image:team/mine:1"},
    "image-own-registry": {"image": "registry.main.org.neu.ro/org/proj/mine:1"},
}
SPECS: dict[str, dict[str, Any]] = {
    **{f"preset-{name}": {**PRESET, **more} for name, more in COMMON.items()},
    **{f"own-{name}": {**OWN, **more} for name, more in COMMON.items() if "image" not in more},
    "preset-gpu": {**PRESET, "preset": "gpu-small"},
    "preset-spot": {**PRESET, "preset": "spot"},
    "preset-shm": {**PRESET, "shm": True},
    "own-no-shm": {**OWN, **resources(shm=False)},
    "own-preemptible": {**OWN, "scheduler_enabled": True},
    "own-nvidia": {**OWN, **resources(nvidia_gpu=2, nvidia_gpu_model="nvidia-a100")},
    "own-amd": {**OWN, **resources(amd_gpu=1, amd_gpu_model="mi300")},
    "own-intel": {**OWN, **resources(intel_gpu=1, intel_gpu_model="max")},
    "own-tpu": {**OWN, **resources(tpu={"type": "v2-8", "software_version": "1.14"})},
    "own-fraction": {**OWN, **resources(cpu=0.1, memory=123_456_789)},
}

#: Where we differ on purpose: what we post in its place, and why.
EXCEPTIONS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "life-span-short": (
        {"life_span": 30.0},
        {"max_run_time_minutes": 1},
        "the SDK rounds down to 0 minutes, which the platform refuses",
    ),
    "life-span-odd": (
        {"life_span": 119.0},
        {"max_run_time_minutes": 2},
        "the SDK ends the job before the time that was asked for",
    ),
    "image-port": (
        {"image": "host:5000/team/img:1"},
        {"image": "host:5000/team/img:1"},
        "the SDK loses the registry, and another image of that name would run",
    ),
    "image-digest": (
        {"image": "python@sha256:" + "0" * 64},
        {"image": "python@sha256:" + "0" * 64},
        "the SDK refuses digests, which are the only exact names of images",
    ),
    "image-other-org": (
        {"image": "image://main/other-org/far/img:1"},
        {"image": "registry.main.org.neu.ro/other-org/far/img:1"},
        "the SDK puts its own organisation in front of the other one",
    ),
}

REFUSED: dict[str, dict[str, Any]] = {
    "volume-no-scheme": {"volumes": ["data:/data"]},
    "volume-no-path": {"volumes": ["storage:data"]},
    "volume-bad-mode": {"volumes": ["storage:data:/data:xx"]},
    "volume-query": {"volumes": ["storage:a?b:/data"]},
    "volume-home": {"volumes": ["storage:~bob/data:/data"]},
    "volume-user": {"volumes": ["storage://bob@main/data:/data"]},
    "image-upper": {"image": "Ubuntu"},
    "image-no-tag": {"image": "ubuntu:"},
    "image-elsewhere": {"image": "image://nowhere/org/proj/img:1"},
    "env-other-scheme": {"secret_env": {"A": "storage:x"}},
}


@pytest.fixture(scope="module")
def double() -> Iterator[Platform]:
    with Platform.start() as platform:
        yield platform


def of_sdk(platform: Platform, specs: list[dict[str, Any]], place: dict[str, str]) -> list[dict[str, Any]]:
    script = Path(__file__).parents[1] / "apolo_home" / "sdk.py"
    done = subprocess.run(
        [VENV / "bin" / "python", script, platform.url, platform.token, json.dumps(place)],
        input=json.dumps(specs),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def posted(double: Platform) -> dict[str, dict[str, Any]]:
    """What the SDK posts, by the specification's name."""
    specs = {
        **SPECS,
        **{name: {**PRESET, **more} for name, (more, _, _) in EXCEPTIONS.items()},
        **{name: {**PRESET, **more} for name, more in REFUSED.items()},
    }
    return dict(zip(specs, of_sdk(double, list(specs.values()), {}), strict=True))


def ours(platform: Platform, spec: dict[str, Any], **place: str) -> tuple[str, Any]:
    return ApoloClient(platform.token, api_url=platform.api_url, **place).request(spec)


@pytest.mark.parametrize("name", SPECS)
def test_we_post_what_the_sdk_posts(name: str, double: Platform, posted: dict[str, dict[str, Any]]) -> None:
    path, body = ours(double, SPECS[name])
    assert "refused" not in posted[name]
    assert body == posted[name]["body"]
    assert f"/api/v1{path}" == posted[name]["path"].rstrip("=")


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_are_exceptions(name: str, double: Platform, posted: dict[str, dict[str, Any]]) -> None:
    more, expected, _ = EXCEPTIONS[name]
    _, body = ours(double, {**PRESET, **more})
    assert expected.items() <= body.items()
    # The day they agree, the exception goes.
    assert body != posted[name].get("body")


@pytest.mark.parametrize("name", REFUSED)
def test_we_refuse_what_the_sdk_refuses(name: str, double: Platform, posted: dict[str, dict[str, Any]]) -> None:
    assert "refused" in posted[name]
    with pytest.raises(InvalidError):
        ours(double, {**PRESET, **REFUSED[name]})


def test_names_lead_to_the_place_that_was_chosen(double: Platform) -> None:
    place = {"cluster": "second", "org": "org", "project": "p2"}
    spec = {**PRESET, "image": "image:mine:1", "volumes": ["storage:a:/a", "storage:/x/a:/b"]}
    (of_theirs,) = of_sdk(double, [spec], place)
    assert ours(double, spec, **place)[1] == of_theirs["body"]
