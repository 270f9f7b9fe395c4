r"""
A Ray dashboard without Ray, which does wrong what a test wants (crates/airfreight-testkit).

.. code-block:: python

    with FaultServer.start() as server:
        server.control("POST", "", {"path": "/api/jobs/", "status": 500, "times": 1})
        server.control("POST", "/jobs", {"id": "a", "states": [[0, "RUNNING"]], "log": "one\\n"})
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).parents[2]


class FaultServer:
    """
    A running fault server; :meth:`start` makes one, leaving the context ends it.

    :param options: the program's, such as ``--token x``.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._process = subprocess.Popen([_program(), *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port: int = json.loads(self._process.stdout.readline())["port"]

    @classmethod
    def start(cls, *options: str) -> Self:
        """
        Return when it listens.

        The program is built if need be, unless ``AIRFREIGHT_FAULT_SERVER`` names one.
        """
        return cls(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where the Jobs API answers."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it; its address answers no more."""
        self._process.kill()
        self._process.communicate()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Tell it what to do or ask what it has seen, as ``control.rs`` says; ``path`` begins after ``/_control``."""
        return self._request(method, f"/_control{path}", body)

    def add_job(self, submission_id: str, **script: Any) -> None:
        """Let it know a job; see ``JobScript``."""
        self.control("POST", "/jobs", {"id": submission_id, **script})

    def job(self, submission_id: str) -> dict[str, Any]:
        """The job as Ray would describe it."""
        job: dict[str, Any] = self._request("GET", f"/api/jobs/{quote(submission_id, safe='')}")
        return job

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs."""
        jobs: list[dict[str, Any]] = self._request("GET", "/api/jobs/")
        return jobs

    def submitted(self, submission_id: str) -> dict[str, Any]:
        """What a job was submitted with."""
        body: dict[str, Any] = self.control("GET", f"/jobs/{quote(submission_id, safe='')}")
        return body

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "airfreight-tests"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            text = answer.read().decode()
        return json.loads(text) if text else None


@functools.cache
def _program() -> Path:
    if given := os.environ.get("AIRFREIGHT_FAULT_SERVER"):
        return Path(given)
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--package", "airfreight-testkit", "--bin", "dashboard"],
        cwd=REPOSITORY,
        check=True,
    )
    return REPOSITORY / "target" / "debug" / "dashboard"
