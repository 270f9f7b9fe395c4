"""Goal: what deploy/ shows fits together. Method: read the files; no engine is at hand where the tests run."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from airfreight.settings import SETTINGS
from host_home import binary

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
UNIT = DEPLOY / "systemd" / "airfreight-agent.service"


def _flags_are_known(arguments: list[str]) -> None:
    shown = subprocess.run([binary(), "agent", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"--[a-z-]+", shown))
    assert {word for word in arguments if word.startswith("--")} <= known


@pytest.mark.parametrize("name", SERVICES)
def test_settings_of_services_are_accepted(name: str) -> None:
    settings = {f"AIRFLOW__AIRFREIGHT__{setting.name.upper()}": setting for setting in SETTINGS}
    for variable, value in SERVICES[name].get("environment", {}).items():
        if variable.startswith("AIRFLOW__AIRFREIGHT__") and "${" not in value:
            settings[variable].read(value)
        assert not re.search("KEY|TOKEN|SECRET|PASSWORD", variable) or "${" in value, f"{variable} is a secret"


@pytest.mark.parametrize("number", ["1", "2"])
def test_a_worker_and_its_agent_share_a_store_which_others_find(number: str) -> None:
    worker, agent = SERVICES[f"worker-{number}"], SERVICES[f"agent-{number}"]
    assert worker["environment"] == agent["environment"]
    assert worker["volumes"] == agent["volumes"]
    assert f"memory-{number}:/airfreight" in worker["volumes"]
    assert worker["environment"]["AIRFLOW__AIRFREIGHT__STORE_PATH"].startswith("/airfreight/")
    assert worker["environment"]["AIRFLOW__AIRFREIGHT__AGENT_URL"] == f"http://agent-{number}:8733"
    volume = COMPOSE["volumes"][f"memory-{number}"]
    assert volume["driver_opts"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=4g,uid=50000,mode=0700"}
    _flags_are_known(agent["entrypoint"])
    assert "0.0.0.0:8733" in agent["entrypoint"]


def test_services_come_after_what_they_need() -> None:
    for name, service in SERVICES.items():
        needed = service.get("depends_on") or []
        assert set(needed) <= set(SERVICES), name
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / "docker" / source).resolve().exists(), mount


def test_the_image_has_what_the_wheel_brings() -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert [line.split()[0] for line in lines] == ["ARG", "FROM", "COPY", "RUN", "ENV"]
    assert "AIRFLOW__CORE__XCOM_BACKEND=airfreight.xcom.AirfreightXCom" in lines[-1]


def test_the_unit_starts_an_agent_that_tells_when_it_is_ready() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    _flags_are_known(service["ExecStart"].split())
    # The agent's own 30 seconds for those who are being answered.
    assert int(service["TimeoutStopSec"]) > 30
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the rest needs systemd-analyze")
    done = subprocess.run(["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, check=False)
    problems = [line for line in done.stderr.splitlines() if UNIT.name in line and "not executable" not in line]
    assert not problems
