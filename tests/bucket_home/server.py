"""Moto's S3 server in a process of its own, on a free port."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import urllib.request
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Self

#: Moto has an environment of its own, since it wants other versions than Airflow.
COMMAND = Path(__file__).parents[2] / ".venvs" / "s3" / "bin" / "moto_server"

START_SECONDS = 60.0
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")


class S3Server:
    """
    An S3 server that starts empty and is gone with its context.

    It checks no signatures; the keys in :attr:`environment` are for clients that want some.
    """

    def __init__(self) -> None:
        found = str(COMMAND) if COMMAND.exists() else shutil.which("moto_server")
        if found is None:
            raise FileNotFoundError(f"there is neither {COMMAND} nor a moto_server on PATH; `make s3` installs it")
        self._process = subprocess.Popen(
            [found, "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()
        self.endpoint = self._address(lines)

    def _read(self, lines: Queue[str]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.put(line)

    def _address(self, lines: Queue[str]) -> str:
        said: list[str] = []
        while True:
            try:
                said.append(lines.get(timeout=START_SECONDS))
            except Empty:
                self.stop()
                raise TimeoutError(f"moto_server did not start: {''.join(said)}") from None
            if running := _RUNNING.search(said[-1]):
                return running[1]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead clients of AWS here."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    @property
    def options(self) -> dict[str, str]:
        """The same as options of :class:`airfreight._remote.Bucket`."""
        return {
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test-secret",
            "aws_region": "us-east-1",
            "aws_endpoint": self.endpoint,
        }

    def make_bucket(self, name: str) -> str:
        """Makes a bucket, and returns its URL."""
        self.request("PUT", f"/{name}")
        return f"s3://{name}"

    def request(self, method: str, path: str, data: bytes | None = None, headers: Any = ()) -> bytes:
        """Asks the server without any client in between."""
        request = urllib.request.Request(f"{self.endpoint}{path}", data, dict(headers), method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
