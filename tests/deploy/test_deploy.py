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


HELM = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((DEPLOY / "helm").glob("*.yaml"))}
DAEMON_SET: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "agent.yaml").read_text())
#: A container with the volumes of its pod: the workers of the chart, and every agent.
PODS = {
    **{name: (values["workers"], values["workers"]["extraVolumes"]) for name, values in HELM.items()},
    "values-celery, agent": (
        HELM["values-celery"]["workers"]["extraContainers"][0],
        HELM["values-celery"]["workers"]["extraVolumes"],
    ),
    "agent": (
        DAEMON_SET["spec"]["template"]["spec"]["containers"][0],
        DAEMON_SET["spec"]["template"]["spec"]["volumes"],
    ),
}


def _plain(container: dict[str, Any]) -> dict[str, str]:
    """The variables whose values stand in the file."""
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


@pytest.mark.parametrize("name", PODS)
def test_a_container_for_kubernetes_has_what_its_settings_name(name: str) -> None:
    container, volumes = PODS[name]
    settings = {f"AIRFLOW__AIRFREIGHT__{setting.name.upper()}": setting for setting in SETTINGS}
    for variable, value in _plain(container).items():
        settings[variable].read(value)
        assert not re.search("KEY|TOKEN|SECRET|PASSWORD", variable), f"{variable} is a secret"
    mounts = {
        one["mountPath"]: one["name"] for one in container.get("extraVolumeMounts", container.get("volumeMounts"))
    }
    assert set(mounts.values()) == {one["name"] for one in volumes}
    for variable in ("STORE_PATH", "SPILL_PATH"):
        path = Path(_plain(container)[f"AIRFLOW__AIRFREIGHT__{variable}"])
        assert any(path.is_relative_to(mount) for mount in mounts), path


def test_agents_and_workers_on_kubernetes_share_a_store() -> None:
    for worker, agent in (("values-celery", "values-celery, agent"), ("values-kubernetes", "agent")):
        # A spill folder notes the path of the store that it belongs to, so both must call it the same.
        shared = [f"AIRFLOW__AIRFREIGHT__{name}" for name in ("STORE_PATH", "SPILL_PATH", "CAPACITY_BYTES")]
        of_worker, of_agent = _plain(PODS[worker][0]), _plain(PODS[agent][0])
        assert [of_worker[name] for name in shared] == [of_agent[name] for name in shared]
        port = of_worker["AIRFLOW__AIRFREIGHT__AGENT_URL"].rpartition(":")[2]
        command = PODS[agent][0]["command"]
        _flags_are_known(command)
        assert f"0.0.0.0:{port}" in command
        assert PODS[agent][0]["ports"][0]["containerPort"] == int(port)
    places = [
        {one["name"]: one["hostPath"]["path"] for one in PODS[name][1]} for name in ("values-kubernetes", "agent")
    ]
    assert places[0] == places[1]


@pytest.mark.parametrize("name", HELM)
def test_all_components_have_the_secrets_of_the_agents(name: str) -> None:
    secrets = {one["envName"]: (one["secretName"], one["secretKey"]) for one in HELM[name]["secret"]}
    agent = PODS["agent" if name == "values-kubernetes" else "values-celery, agent"][0]
    found = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in agent["env"] if "valueFrom" in one}
    assert secrets == {variable: (ref["name"], ref["key"]) for variable, ref in found.items()}
