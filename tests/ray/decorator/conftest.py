"""Clusters without Ray, and DAG files as Airflow imports them."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from driver_home import DriverHome, interpreter


@pytest.fixture
def home(tmp_path: Path) -> DriverHome:
    """A cluster with this very Python."""
    return DriverHome(tmp_path / "cluster")


@pytest.fixture(params=["3.8", "3.9", "3.10", "3.11", "3.12", "3.13"])
def other_home(request: pytest.FixtureRequest, tmp_path: Path) -> DriverHome:
    """A cluster with each Python of this machine, without any library."""
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} here")
    return DriverHome(tmp_path / "cluster", found)


@pytest.fixture
def dag_file(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a text as Airflow imports a DAG file: under a name that no other process can import."""
    names = []
    folder = tmp_path / "dags"
    folder.mkdir()
    sys.path.insert(0, str(folder))

    def load(text: str, name: str = "flow") -> ModuleType:
        path = folder / f"{name}.py"
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        unusual = f"unusual_prefix_{hashlib.sha1(str(path).encode()).hexdigest()}_{name}"
        names.append(unusual)
        spec = importlib.util.spec_from_file_location(unusual, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[unusual] = module
        spec.loader.exec_module(module)
        return module

    yield load
    sys.path.remove(str(folder))
    for name in names:
        sys.modules.pop(name, None)
