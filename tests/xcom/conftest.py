"""What the tests of the XCom backend share: a process state of their own, over a store and a home of their own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airfreight import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airfreight.process import Process

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in shared memory that is gone after the test."""
    folder = Path(tempfile.mkdtemp(prefix="airfreight-xcom-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def configure(memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Process]:
    """Starts the process's state anew with settings of ``[airfreight]``; the store and the key file stay."""
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


@pytest.fixture
def here(configure: Callable[..., Process]) -> Process:
    """The state of this process, with default settings."""
    return process.here()
