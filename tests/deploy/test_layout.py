"""
Goal: the image's steps and the settings of the Compose file make workers and agents that pass values between them.

Method: what Docker would do, without it. The Dockerfile's steps change a layer over this machine's files; each worker
and its agent run in that, in namespaces of their own, with their volume as the file describes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from host_home import Network, missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from host_home import Host

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
VOLUMES: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["volumes"]
TASK = ROOT / "tests" / "host_home" / "task.py"
SECRETS = {name: name.lower() * 4 for name in ("AIRFREIGHT_SECRET_KEY", "AIRFREIGHT_TOKEN", "JWT_SECRET")}
SECRETS |= {"FERNET_KEY": "", "POSTGRES_PASSWORD": "none"}
BINARIES = sysconfig.get_path("scripts")

#: A root of the layers `$2`, whose changes go to `$3`; what `$4` names appears at `/airfreight`.
LAYERED = """
set -e
at=$1 lower=$2 upper=$3 memory=$4
shift 4
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$upper-work" "$at"
for folder in dev proc sys; do mount --rbind "/$folder" "$at/$folder"; done
mount --bind /etc/hosts "$at/etc/hosts"
mkdir -p "$at/airfreight" "$at/opt/airflow"
[ -z "$memory" ] || mount --bind "$memory" "$at/airfreight"
exec chroot "$at" "$@"
"""


class Container:
    """A service of the Compose file on a host."""

    def __init__(self, image: Image, host: Host, service: str) -> None:
        self._image, self._host, self._service = image, host, SERVICES[service]
        self._upper = image.folder / service
        for folder in (self._upper, Path(f"{self._upper}-work"), Path(f"{self._upper}-root")):
            folder.mkdir()
        volume = next(mount.partition(":")[0] for mount in self._service["volumes"] if mount.endswith(":/airfreight"))
        self._memory = image.volume(volume)
        given = {name: _filled(value) for name, value in self._service["environment"].items()}
        self._environment = image.environment | given

    def start(self, *command: str) -> subprocess.Popen[str]:
        layers = f"{self._image.layer}:/"
        enter = ("sh", "-c", LAYERED, "sh", f"{self._upper}-root", layers, str(self._upper), str(self._memory))
        return subprocess.Popen(
            self._host.command("unshare", "--mount", *enter, *command),
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, given: str = "") -> str:
        process = self.start(*command)
        out, err = process.communicate(given, timeout=120)
        assert process.returncode == 0, f"{command}: {out[-500:]}\n{err[-2000:]}"
        return out

    def task(self, what: str, argument: Any) -> dict[str, Any]:
        """One of the functions of ``task.py``, as a task of this worker."""
        out = self.run(sys.executable, str(TASK), what, given=json.dumps(argument))
        answer: dict[str, Any] = json.loads(out.strip().rpartition("\n")[2])
        assert "error" not in answer, answer
        return answer


class Image:
    """A layer over this machine's files with what the Dockerfile's steps change."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.layer = folder, folder / "image"
        self._volumes: list[Path] = []
        for name in ("image", "image-work", "image-root"):
            (folder / name).mkdir()
        # The image that it is made from has Airflow there.
        self.environment = {
            "PATH": f"{BINARIES}:{os.defpath}:/usr/sbin:/sbin",
            "AIRFLOW_HOME": "/opt/airflow",
            "HOME": "/opt/airflow",
        }
        for step, argument in _steps():
            if step == "COPY":
                source, target = argument.split()
                self._build(f"mkdir -p {target} && cp {ROOT}/{source} {target}")
            elif step == "RUN":
                # Without a registry, and over the one that is there.
                self._build(argument.replace("pip install", "pip install --no-index --no-deps --force-reinstall"))
            elif step == "ENV":
                self.environment |= dict([argument.split("=", 1)])

    def _build(self, command: str) -> None:
        place = (str(self.folder / "image-root"), "/", str(self.layer), "")
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", LAYERED, "sh", *place, "sh", "-c", command],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-500:]}\n{done.stderr[-2000:]}"

    def volume(self, name: str) -> Path:
        """A volume of the Compose file, mounted with its options; its user is the image's, which isn't there."""
        place = self.folder / f"volume-{name}"
        if place not in self._volumes:
            driver = VOLUMES[name]["driver_opts"]
            options = ",".join(option for option in driver["o"].split(",") if not option.startswith("uid="))
            place.mkdir()
            subprocess.run(["mount", "-t", driver["type"], "-o", options, driver["device"], str(place)], check=True)
            self._volumes.append(place)
        return place

    def close(self) -> None:
        for place in self._volumes:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def _steps() -> Iterator[tuple[str, str]]:
    for line in (DOCKER / "Dockerfile").read_text().splitlines():
        if line and not line.startswith("#"):
            step, _, argument = line.partition(" ")
            yield step, argument


def _filled(value: str) -> str:
    return re.sub(r"\$\{(\w+):\?\}", lambda found: SECRETS[found[1]], value)


@pytest.fixture
def image() -> Iterator[Image]:
    if reason := missing():
        pytest.skip(reason)
    # Layers want a file system that keeps their marks, as tmpfs does.
    folder = Path(tempfile.mkdtemp(prefix="airfreight-image-", dir="/dev/shm"))
    try:
        with contextlib.closing(Image(folder)) as image:
            yield image
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_workers_and_agents_of_the_compose_file_pass_values_on(image: Image) -> None:
    assert list(image.layer.rglob("airfreight/xcom.py")), "the step has installed the wheel into the layer"
    with Network("agent-1", "agent-2") as network:
        agents = [Container(image, host, host.name) for host in network.hosts]
        running = [agent.start(*SERVICES["agent-1"]["entrypoint"]) for agent in agents]
        try:
            for agent, process, host in zip(agents, running, network.hosts, strict=True):
                _until_healthy(agent, process, SERVICES[host.name]["healthcheck"]["test"])
            here, there = (Container(image, host, host.name.replace("agent", "worker")) for host in network.hosts)
            made = here.task("make", {"nbytes": 5 << 20, "seed": 1})["result"]
            assert "http://agent-1:8733" in json.dumps(made["row"])
            read = there.task("read", made["row"])["result"]
            assert (read["digest"], read["nbytes"]) == (made["digest"], 5 << 20)
            assert there.task("count", None)["result"]["objects"] == 1, "it was brought to the other host"
        finally:
            logs = []
            for process in running:
                process.terminate()
                logs.append(process.communicate(timeout=60)[1])
    for log in logs:
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        assert any(line.get("message") == "listening" for line in lines), log[-2000:]
        assert not [secret for secret in SECRETS.values() if len(secret) > 8 and secret in log]


def _until_healthy(agent: Container, process: subprocess.Popen[str], check: list[str]) -> None:
    assert check[0] == "CMD"
    for _ in range(60):
        asked = agent.start(*check[1:])
        asked.communicate(timeout=60)
        if asked.returncode == 0:
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise AssertionError(process.communicate()[1][-3000:] if process.poll() is not None else "it doesn't get healthy")
