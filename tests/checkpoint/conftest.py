"""What the tests of checkpoints share: a real S3 server, a proxy that fails on demand, and a store of their own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airfreight import process
from bucket_home import FaultProxy, S3Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airfreight.process import Process

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket_url(s3: S3Server) -> str:
    """A bucket of the test's own."""
    return s3.make_bucket(f"models-{uuid4().hex[:12]}")


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def aws(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment's credentials lead to the server."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.environment


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in shared memory that is gone after the test."""
    folder = Path(tempfile.mkdtemp(prefix="airfreight-bucket-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def configure(memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """Starts the process's state anew with settings of ``[airfreight]``; the key file stays."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__AIRFREIGHT__STORE_PATH", str(memory / "store"))
    monkeypatch.setenv("AIRFLOW__AIRFREIGHT__SPILL_PATH", str(memory / "spill"))

    def configure(**settings: Any) -> Process:
        for name, value in settings.items():
            monkeypatch.setenv(f"AIRFLOW__AIRFREIGHT__{name.upper()}", str(value))
        monkeypatch.setattr(process, "_current", None)
        return process.here()

    configure()
    return configure
