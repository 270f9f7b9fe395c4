"""Goal: the agent does what docs/openapi.yaml says, and nothing else. Method: schemathesis against a running one."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airfreight import codec
from airfreight._store import Store
from host_home import binary

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]

#: Schemathesis has an environment of its own, since it wants other versions than Airflow.
COMMAND = REPOSITORY / ".venvs" / "api" / "bin" / "schemathesis"


class Served:
    """An agent on a free port, over a store that holds one value."""

    def __init__(self, folder: Path) -> None:
        store = Store(str(folder / "store"), capacity_bytes=64 << 20, spill_path=str(folder / "spill"))
        self.name = codec.put(store, bytes(300_000), owner={"dag_id": "d", "run_id": "r", "task_id": "t"}).name
        self.token = secrets.token_hex(16)
        environment = os.environ | {"AIRFLOW_HOME": str(folder), "AIRFREIGHT_AGENT_WRITE_TOKEN": self.token}
        self._log = (folder / "agent.log").open("w+")
        self.process = subprocess.Popen(
            [binary(), "agent", "--listen", "127.0.0.1:0", "--store", str(folder / "store")],
            env=environment,
            stderr=self._log,
        )
        self.url = self._address(folder / "agent.log")

    def _address(self, log: Path) -> str:
        while self.process.poll() is None:
            if found := re.search(r"listening .*?(127\.0\.0\.1:\d+)", log.read_text()):
                return f"http://{found[1]}"
        raise RuntimeError(log.read_text())

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait() == 0
        self._log.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


@pytest.mark.slow
def test_the_agent_and_its_description_agree(served: Served, tmp_path: Path) -> None:
    command = str(COMMAND) if COMMAND.exists() else shutil.which("schemathesis")
    if command is None:
        pytest.skip(f"there is no {COMMAND}; `make api` installs it")
    # Those who read find something; those who send and delete make up names.
    (tmp_path / "schemathesis.toml").write_text(
        "[[operations]]\n"
        'include-operation-id = ["read", "look", "describe"]\n'
        f'parameters = {{ name = "{served.name}" }}\n'
    )
    done = subprocess.run(
        [
            command,
            f"--config-file={tmp_path}/schemathesis.toml",
            "run",
            str(REPOSITORY / "docs" / "openapi.yaml"),
            f"--url={served.url}",
            f"--header=Authorization: Bearer {served.token}",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=30",
            # A condition or a range that is well-formed may still not be met, and headers are never refused for their
            # form: HTTP says to ignore them.
            "--exclude-checks=positive_data_acceptance,negative_data_rejection",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "9 selected / 9 total" in done.stdout
