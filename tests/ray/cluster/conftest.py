"""One Ray with a runner for all tests that call functions in it."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from runner_client import Run, RunnerHome

from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="session")
def runner(request: pytest.FixtureRequest) -> Iterator[RunnerHome]:
    """A runner that doesn't end by itself, on a Ray of its own."""
    with RayHome.start(num_cpus=2) as ray:
        home = RunnerHome(ray)
        home.start()
        yield home
        home.close()
        if request.session.testsfailed:
            ray.keep = True
            print(f"\nThe logs of the Ray with the runner are in {ray.logs}")


@pytest.fixture
def run(runner: RunnerHome) -> Iterator[Run]:
    """A DAG run of its own."""
    run = Run(runner)
    yield run
    run.end()


@pytest.fixture(params=["port", "mailbox"])
def run_each_way(request: pytest.FixtureRequest, runner: RunnerHome) -> Iterator[Run]:
    """A DAG run over the runner's own port, and one through the dashboard alone."""
    run = Run(runner, mail=request.param == "mailbox")
    yield run
    run.end()


@pytest.fixture
def dag_file(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a text as a DAG file, under the same name each time."""
    names = []
    numbers = itertools.count()

    def load(text: str, name: str = "shifting_flow") -> ModuleType:
        folder = tmp_path / f"v{next(numbers)}"
        folder.mkdir()
        path = folder / f"{name}.py"
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in names:
        sys.modules.pop(name, None)
