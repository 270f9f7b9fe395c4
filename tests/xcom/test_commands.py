"""``airflow airfreight``: Airflow's configuration reaches the binary, secrets through the environment alone."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airfreight.cli import environment, find_binary, get_airfreight_cli_commands

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.process import Process

AIRFLOW = Path(sysconfig.get_path("scripts")) / "airflow"


def airflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([AIRFLOW, "airfreight", *arguments], env=env, capture_output=True, text=True, check=False)


def test_the_commands_are_the_binary_s() -> None:
    group = get_airfreight_cli_commands()[0]
    assert [command.name for command in group.subcommands] == ["gc", "stat", "doctor", "checkpoint"]


def test_settings_and_secrets_go_by_environment(configure: Callable[..., Process]) -> None:
    configure(api_token="the token of a test", secret_key="the secret key of a test", capacity_bytes="1 GiB")
    env = environment()
    assert env["AIRFREIGHT_API_TOKEN"] == "the token of a test"
    assert env["AIRFREIGHT_CAPACITY_BYTES"] == str(2**30)
    assert "AIRFREIGHT_SECRET_KEY" not in env


def test_the_binary_is_the_wheel_s(configure: Callable[..., Process]) -> None:
    assert find_binary() == AIRFLOW.with_name("airfreight")


def test_stat_shows_the_configured_store(
    configure: Callable[..., Process], memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(capacity_bytes="64 MiB")
    store = configure().store
    done = airflow("stat", "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout[done.stdout.index("{") :])
    assert (shown["path"], shown["capacity_bytes"]) == (store.path, 64 * 2**20)


def test_a_bad_setting_is_named_without_a_traceback(configure: Callable[..., Process]) -> None:
    configure(mapping="upside down")
    done = airflow("stat")
    assert done.returncode == 1
    assert "error: [airfreight] mapping = 'upside down'" in done.stderr
    assert "Traceback" not in done.stderr
