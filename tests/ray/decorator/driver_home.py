"""A cluster without Ray: unpacks what would be uploaded, runs the driver as Ray runs it, and keeps its log."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airfreight.ray import skew
from airfreight.ray.function import Function
from airfreight.ray.outcome import Outcome
from airfreight.ray.parcel import Parcel, driver_package

NONCE = "0123abcd"
PYENV = Path.home() / ".pyenv" / "versions"


def interpreter(minor: str) -> str | None:
    """Another Python of this machine."""
    found = sorted(PYENV.glob(f"{minor}.*/bin/python"))
    return str(found[-1]) if found else None


class DriverHome:
    """
    Runs functions by the driver in a process of its own.

    :param folder: everything is written there.
    :param python: the interpreter of the "cluster".
    """

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.env: dict[str, str] = {}
        #: More folders on the path of the cluster's Python.
        self.path: list[Path] = []
        #: What the job's log is called; Ray's own form, of which the driver derives where a result may lie.
        self.log_name = "job-driver-{}.log"
        self.allow_pickle = True
        self.job: dict[str, Any] = {}
        self.log = ""
        self.returncode: int | None = None
        self._runs = 0

    def call(self, callable_: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What the function returns over there; raises what it raises."""
        outcome = self.run(callable_, args, kwargs)
        if self.returncode:
            error = outcome.error(callable_)
            assert error is not None, self.log
            raise error
        return outcome.value(callable_, allow_pickle=self.allow_pickle)

    def run(self, callable_: Callable[..., Any], args: Any = (), kwargs: Any = None, roots: Any = ()) -> Outcome:
        function = Function(callable_, [Path(root) for root in roots], allow_pickle=self.allow_pickle)
        arguments = function.argument(tuple(args), kwargs or {})
        parcel = Parcel(
            function,
            arguments,
            environment={"AIRFLOW_CTX_TASK_ID": "there"},
            libraries=skew.versions(function.libraries()),
        )
        return self.start(parcel, function.name)

    def start(self, parcel: Parcel, name: str) -> Outcome:
        self._runs += 1
        folder = self.folder / f"run{self._runs}"
        path = []
        for index, package in enumerate([driver_package(), *parcel.packages()]):
            assert len(package) < 100 * 1024 * 1024
            place = folder / f"package{index}"
            with zipfile.ZipFile(io.BytesIO(package)) as archive:
                archive.extractall(place)
            path.append(str(place))
        submission_id = f"af-run-{self._runs}"
        log = folder / self.log_name.format(submission_id)
        self.job = {
            "submission_id": submission_id,
            "metadata": {"airfreight_nonce": NONCE},
            "driver_node_id": "node",
        }
        keep = {"PATH", "HOME", "LANG", "TMPDIR"}
        env = {name: value for name, value in os.environ.items() if name in keep}
        env |= {
            "PYTHONPATH": os.pathsep.join([*path, *map(str, self.path)]),
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"metadata": self.job["metadata"]}),
        }
        with log.open("wb") as file:
            done = subprocess.run(
                [self.python, *shlex.split(parcel.entrypoint)],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=env | self.env,
                cwd=folder,
                check=False,
            )
        self.returncode = done.returncode
        self.log = log.read_text(errors="replace")
        self.folder_of_run = folder
        return Outcome(self, self.job, name)

    # What Outcome asks of a cluster

    def last_lines(self, submission_id: str, lines: int) -> list[str]:
        return self.log.split("\n")[:-1][-lines:]

    def log_file(self, node_id: str, name: str) -> bytes:
        path = self.folder_of_run / name
        if not path.exists():
            raise LookupError(name)
        return path.read_bytes()

    @property
    def printed(self) -> list[str]:
        """What people see of the log."""
        return [line for line in self.log.split("\n")[:-1] if not line.startswith("\x1eairfreight ")]
