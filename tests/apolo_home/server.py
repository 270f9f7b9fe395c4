"""
The platform as tests use it: started, told what to do wrong, asked what has arrived.

.. code-block:: python

    with Platform.start() as platform:
        platform.fault("POST", "/jobs", kind="lose")
        ...
        assert len(platform.jobs()) == 1
"""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from apolo_home.certificates import Certificates

#: The SDK's virtual environment, which ``make apolo`` makes; it has the web server that the double is made of, too.
VENV = Path(__file__).parents[2] / ".venvs" / "apolo"


class Platform:
    """A running double; :meth:`start` makes one, leaving the context ends it and all of its jobs."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        program = Path(__file__).with_name("double.py")
        tls = [] if certificates is None else [certificates.certificate, certificates.key]
        self._trust = None if certificates is None else ssl.create_default_context(cafile=certificates.authority)
        self._process = subprocess.Popen(
            [VENV / "bin" / "python", program, *tls], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        told = json.loads(self._process.stdout.readline() or "{}")
        assert told, f"the double of the platform did not start: is {VENV} there? `make apolo` makes it"
        self.url: str = told["url"]
        #: A token that opens it.
        self.token: str = told["token"]

    @classmethod
    def start(cls, certificates: Certificates | None = None) -> Self:
        """
        Return when it listens.

        :param certificates: it speaks TLS with these.
        """
        return cls(certificates)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        # It ends, with all of its jobs, when nobody is there any more.
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def api_url(self) -> str:
        """What the connection's ``api_url`` is."""
        return f"{self.url}/api/v1"

    def connection(self, **extra: Any) -> str:
        """An Airflow connection to it."""
        return json.dumps({"conn_type": "apolo", "password": self.token, "extra": {"api_url": self.api_url, **extra}})

    def fault(self, method: str, part: str, *, kind: str, times: int | None = 1, **more: Any) -> None:
        """
        Do something wrong with requests of a method whose path has ``part`` in it.

        :param kind: ``status`` (answer with ``status`` and ``text``), ``drop`` (cut without an answer), ``lose``
            (do it, and cut), ``delay`` (for ``seconds``).
        :param times: how often; ``None`` is always.
        """
        self.control("POST", "faults", {"method": method, "part": part, "kind": kind, "times": times, **more})

    def reset(self) -> None:
        """Forget faults and requests; jobs stay."""
        self.control("POST", "reset")

    def requests(self, method: str = "", part: str = "") -> list[dict[str, Any]]:
        """What has arrived, in order."""
        found: list[dict[str, Any]] = self.control("GET", "requests")
        return [each for each in found if method in ("", each["method"]) and part in each["path"]]

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, the oldest first."""
        found: list[dict[str, Any]] = self.control("GET", "jobs")
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        return next(job for job in self.jobs() if job["id"] == job_id)

    def end(self, job_id: str, **how: Any) -> None:
        """End a job from outside: ``status``, ``reason``, ``description``, ``exit_code``."""
        self.control("POST", f"jobs/{job_id}/end", how)

    def wait_for(self, condition: Callable[[], Any], what: str, timeout: float = 120.0) -> Any:
        """Return what the condition says, as soon as it isn't false."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.05)
        return found

    def control(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_fake/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=60, context=self._trust) as answer:
            return json.loads(answer.read() or "null")
