"""Servers of buckets in processes of their own, on free ports: Moto's for S3, Azurite for Azure."""

from __future__ import annotations

import base64
import hmac
import re
import shutil
import subprocess
import threading
import urllib.request
from email.utils import formatdate
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Self

#: Moto has an environment of its own, since it wants other versions than Airflow.
COMMAND = Path(__file__).parents[2] / ".venvs" / "s3" / "bin" / "moto_server"

START_SECONDS = 60.0
_RUNNING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")

#: It needs Node, and isn't part of the ordinary tests: `make azure` installs it.
AZURITE = COMMAND.parents[2] / "azure" / "node_modules" / ".bin" / "azurite-blob"
_AZURITE_OPTIONS = (
    *("--blobHost", "127.0.0.1", "--blobPort", "0"),
    *("--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"),
)
_LISTENS = re.compile(r"successfully listens on (http://127\.0\.0\.1:\d+)")


class _Server:
    """A process that says where it listens, and is gone with its context."""

    def __init__(self, command: list[str], says: re.Pattern[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()
        self.endpoint = self._address(lines, says)

    def _read(self, lines: Queue[str]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.put(line)

    def _address(self, lines: Queue[str], says: re.Pattern[str]) -> str:
        said: list[str] = []
        while True:
            try:
                said.append(lines.get(timeout=START_SECONDS))
            except Empty:
                self.stop()
                raise TimeoutError(f"{self._process.args!r} did not start: {''.join(said)}") from None
            if running := says.search(said[-1]):
                return running[1]

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


class S3Server(_Server):
    """
    An S3 server that starts empty.

    It checks no signatures; the keys in :attr:`environment` are for clients that want some.

    :param command: another server than Moto's, which says as that does where it listens.
    """

    def __init__(self, *command: str) -> None:
        super().__init__(list(command) or _moto(), _RUNNING)

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


def _moto() -> list[str]:
    found = str(COMMAND) if COMMAND.exists() else shutil.which("moto_server")
    if found is None:
        raise FileNotFoundError(f"there is neither {COMMAND} nor a moto_server on PATH; `make s3` installs it")
    return [found, "-H", "127.0.0.1", "-p", "0"]


class AzureServer(_Server):
    """Azurite, which Microsoft makes for tests: a storage account that starts empty, and checks every signature."""

    ACCOUNT = "devstoreaccount1"
    #: Every Azurite has this one.
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self) -> None:
        super().__init__([str(AZURITE), *_AZURITE_OPTIONS], _LISTENS)
        self.endpoint = f"{self.endpoint}/{self.ACCOUNT}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead clients of Azure here."""
        return {name.upper(): value for name, value in self.options.items()}

    @property
    def options(self) -> dict[str, str]:
        """The same as options of :class:`airfreight._remote.Bucket`."""
        return {
            "azure_storage_account_name": self.ACCOUNT,
            "azure_storage_account_key": self.KEY,
            "azure_storage_endpoint": self.endpoint,
        }

    def make_bucket(self, name: str) -> str:
        """Makes a container, and returns its URL."""
        date, version = formatdate(usegmt=True), "2021-08-06"
        headers = f"x-ms-date:{date}\nx-ms-version:{version}"
        # The account stands there twice, since it is in the emulator's path, too.
        resource = f"/{self.ACCOUNT}/{self.ACCOUNT}/{name}\nrestype:container"
        kind = "application/octet-stream"
        text = f"PUT\n\n\n\n\n{kind}\n\n\n\n\n\n\n{headers}\n{resource}"
        signature = hmac.digest(base64.b64decode(self.KEY), text.encode(), "sha256")
        request = urllib.request.Request(
            f"{self.endpoint}/{name}?restype=container",
            b"",
            {
                "x-ms-date": date,
                "x-ms-version": version,
                "Content-Type": kind,
                "Authorization": f"SharedKey {self.ACCOUNT}:{base64.b64encode(signature).decode()}",
            },
            method="PUT",
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=60).close()
        return f"az://{name}"
