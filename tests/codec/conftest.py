"""A store for each test module, in shared memory where there is some."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airfreight._store import Store


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="airfreight-test-", dir=shared if shared.is_dir() else None) as folder:
        yield Store(f"{folder}/store", spill_path=f"{folder}/spill")
