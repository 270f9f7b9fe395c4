"""
Goal: worker and cluster may differ in Python and libraries; where that matters, the task is told before the function
runs, with both versions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from driver_home import DriverHome, interpreter

from airfreight.errors import InvalidError
from airfreight.ray import skew
from airfreight.ray.function import Function

Load = Callable[[str], ModuleType]
HERE = ".".join(map(str, sys.version_info[:3]))

FILE = """
import datetime
from dataclasses import dataclass
from airflow.sdk import task

FACTOR = 2

@dataclass
class Row:
    n: int

def double(x):
    return FACTOR * x

def flow(limit):
    @task.ray
    def nested(x, add=limit + 1):
        return x + limit + add
    return nested

nested = flow(1)

@task.ray
def f(row: Row, *, when: datetime.date | None = None) -> dict[str, int]:
    print("there")
    if row.n < 0:
        raise ValueError(f"{row.n}")
    return {"n": double(row.n), "row": Row(row.n + 1), "when": when}
"""


def test_source_runs_on_every_python(other_home: DriverHome, dag_file: Load) -> None:
    import datetime

    module = dag_file(FILE)
    when = datetime.date(2026, 1, 2)
    found = other_home.call(module.f.function, module.Row(3), when=when)
    assert found == {"n": 6, "row": module.Row(4), "when": when}
    assert other_home.printed == ["there"]
    assert other_home.call(module.nested.function, 1) == 4
    with pytest.raises(ValueError, match="-1") as caught:
        other_home.call(module.f.function, module.Row(-1))
    assert caught.traceback[-1].lineno + 1 == module.f.function.__code__.co_firstlineno + 4


def test_results_come_back_from_every_python(other_home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        """
        from airflow.sdk import task

        @task.ray
        def f(n):
            return {"bytes": bytes(n), "set": {1, 2}, "error": KeyError("a")}
        """
    )
    found = other_home.call(module.f.function, 1_000_000)
    assert (len(found["bytes"]), found["set"], found["error"].args) == (1_000_000, {1, 2}, ("a",))


@pytest.mark.parametrize(
    ("minor", "body", "what"),
    [
        ("3.9", "match x:\n        case 1:\n            return 2", "line 9"),
        ("3.10", "try:\n        pass\n    except* ValueError:\n        pass", "line 10"),
    ],
)
def test_syntax_that_the_cluster_does_not_know(
    dag_file: Load, tmp_path: Path, minor: str, body: str, what: str
) -> None:
    module = dag_file(f"from airflow.sdk import task\n\n\n\n@task.ray\ndef f(x):\n    {body}\n")
    with pytest.raises(InvalidError) as caught:
        skew.check_python(Function(module.f.function, []), f"{minor}.1")
    assert f"is beyond the cluster's Python {minor}.1" in str(caught.value)
    assert f"the worker has Python {HERE}" in str(caught.value)
    assert what in str(caught.value)
    # What can't be known beforehand, such as the Python of a conda environment, the driver tells.
    python = interpreter(minor)
    if python is None:
        pytest.skip(f"no Python {minor} here")
    home = DriverHome(tmp_path / "cluster", python)
    with pytest.raises(InvalidError) as told:
        home.call(module.f.function, 1)
    assert f"the cluster's Python {minor}." in str(told.value)
    assert f"the worker has Python {HERE}" in str(told.value)


def test_byte_code_needs_the_same_python(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle")
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec("def f(x):\n    return x\n", namespace)
    function = namespace["f"]
    with pytest.raises(InvalidError) as caught:
        skew.check_python(Function(function, []), "3.9.1")
    assert "3.9.1" in str(caught.value)
    assert HERE in str(caught.value)
    python = interpreter("3.12")
    if python is None:
        pytest.skip("no other Python here")
    home = DriverHome(tmp_path / "cluster", python)
    with pytest.raises(InvalidError) as told:
        home.call(function, 1)
    assert f"byte code of Python {HERE}" in str(told.value)
    assert "3.12." in str(told.value)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A library with a version, for this process and for the cluster."""

    def install(version: str, *, here: bool = False) -> Path:
        folder = tmp_path / f"library-{version}"
        (folder / "box_library").mkdir(parents=True)
        (folder / "box_library" / "__init__.py").write_text(
            f"__version__ = {version!r}\n\nclass Box:\n    def __init__(self, n):\n        self.n = n\n"
        )
        if here:
            monkeypatch.syspath_prepend(str(folder))
        return folder

    yield install
    sys.modules.pop("box_library", None)


def take(box: object) -> object:
    print("ran")
    return box.n  # type: ignore[attr-defined]


def make(n: int) -> object:
    from box_library import Box

    return Box(n)


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("1.4.0", "1.9.1", True),
        ("1.4.0", "2.0.0", False),
        ("0.4.1", "0.4.9", True),
        ("0.4.1", "0.5.0", False),
        ("2025.1", "2026.2", True),
    ],
)
def test_libraries_are_compared_both_ways(
    home: DriverHome, library: Callable[..., Path], ours: str, theirs: str, fits: bool
) -> None:
    library(ours, here=True)
    home.path.append(library(theirs))
    import box_library

    if fits:
        assert home.call(take, box_library.Box(3)) == 3
        assert home.call(make, 4).n == 4
        return
    with pytest.raises(InvalidError) as caught:
        home.call(take, box_library.Box(3))
    assert f"objects of box_library {ours}, and the cluster has box_library {theirs}" in str(caught.value)
    assert "ran" not in home.printed
    with pytest.raises(InvalidError) as back:
        home.call(make, 4)
    assert f"box_library {theirs}" in str(back.value)
    assert f"this worker has box_library {ours}" in str(back.value)


def test_a_library_that_the_cluster_lacks(home: DriverHome, library: Callable[..., Path]) -> None:
    library("1.4.0", here=True)
    import box_library

    with pytest.raises(InvalidError) as caught:
        home.call(take, box_library.Box(3))
    assert "the module box_library (the worker has 1.4.0)" in str(caught.value)
    assert 'runtime_env={"pip": ["box_library==1.4.0"]}' in str(caught.value)


def test_a_library_that_the_worker_lacks(home: DriverHome, library: Callable[..., Path]) -> None:
    home.path.append(library("1.4.0"))
    with pytest.raises(InvalidError, match=r"objects of box_library 1\.4\.0.*this worker doesn't have that library"):
        home.call(make, 4)
