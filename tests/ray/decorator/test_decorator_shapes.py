"""
Goal: whatever way a task's function is written and called, it does on the cluster what it would do at home.

Method: DAG files as users write them, imported as Airflow does; the driver in a process of its own that has neither
Airflow nor the file.
"""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from driver_home import DriverHome, interpreter
from shapes import SHAPES

from airfreight.errors import InvalidError

Load = Callable[[str], ModuleType]

HEAD = """
from airflow.sdk import DAG, task
from airfreight.decorators import ray, ray_task
"""

#: Arguments that could not be written down as source text.
ARGUMENTS: dict[str, Any] = {
    "nan": float("nan"),
    "datetime": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    "path": Path("/a/b"),
    "array": np.arange(10.0)[::3],
    "dates": np.array(["2026-01-01", "NaT"], "datetime64[us]"),
    "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2026-01-01", "2026-01-02"])}),
    "large text": "é" * 400_000,
    "set": {1, (2, frozenset({3}))},
    "bytes": b"\x00\xff",
    "complex": 1 + 2j,
    "memoryview": memoryview(b"abc"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_function_runs_as_at_home(home: DriverHome, dag_file: Load, name: str) -> None:
    text, args, kwargs, expected = SHAPES[name]
    text = textwrap.dedent(text)
    module = dag_file(text + HEAD if text.startswith("\nfrom __future__") else HEAD + text)
    assert home.call(module.f.function, *args, **kwargs) == expected


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_arrives_as_it_is(home: DriverHome, dag_file: Load, name: str) -> None:
    from codec.equality import assert_same

    module = dag_file(HEAD + "@task.ray\ndef f(value, *, again):\n    return value, again\n")
    value = ARGUMENTS[name]
    there = home.call(module.f.function, value, again=[value])
    assert_same(there, (value, [value]))


def test_objects_of_the_dag_file_travel_both_ways(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        HEAD
        + """
from dataclasses import dataclass

@dataclass
class Row:
    n: int

def helper(x):
    return x + 1

@task.ray
def f(row, function):
    return [Row(function(row.n)), Row, function]
"""
    )
    row, cls, function = home.call(module.f.function, module.Row(1), module.helper)
    assert row == module.Row(2)
    assert cls is module.Row
    assert function is module.helper


def test_modules_beside_the_file_come_along(home: DriverHome, dag_file: Load, tmp_path: Path) -> None:
    package = tmp_path / "dags" / "flights_near"
    package.mkdir()
    (package / "__init__.py").write_text("from flights_near.inner import add\n")
    (package / "inner.py").write_text("import airports_near\n\ndef add(x):\n    return x + airports_near.N\n")
    (package / "words.txt").write_text("hello")
    (tmp_path / "dags" / "airports_near.py").write_text("N = 5\n\nclass Port:\n    n = N\n")
    (tmp_path / "dags" / "unused_near.py").write_text("")
    module = dag_file(
        HEAD
        + """
import flights_near
from flights_near import add
from pathlib import Path
from airports_near import Port

@task.ray
def f(x, port):
    return add(x), (Path(flights_near.__file__).parent / "words.txt").read_text(), port.n, isinstance(port, Port)
"""
    )
    import airports_near

    outcome = home.run(module.f.function, (1, airports_near.Port()), roots=[tmp_path / "dags"])
    assert outcome.value() == (6, "hello", 5, True)
    shipped = {path.name for path in home.folder_of_run.rglob("*near*")}
    assert "airports_near.py" in shipped
    assert "unused_near.py" not in shipped


def test_cells_of_a_notebook_have_source_without_a_file(home: DriverHome) -> None:
    import linecache

    namespace: dict[str, Any] = {"OFFSET": 3, "__name__": "__main__"}
    cells = [
        "import math as m",
        "def helper(x):\n    return m.floor(x) + OFFSET\n",
        "def f(x):\n    return helper(x)\n",
    ]
    for number, text in enumerate(cells):
        name = f"<ipython-input-{number}-abc>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), namespace)
    assert home.call(namespace["f"], 1.5) == 4


def test_a_module_beside_the_file_that_needs_airflow_is_taken_apart(
    home: DriverHome, dag_file: Load, tmp_path: Path
) -> None:
    python = interpreter("3.12")
    if python is None:
        pytest.skip("no other Python here")
    home.python = python
    (tmp_path / "dags" / "common_near.py").write_text(
        "from airflow.sdk import Variable\n\nDEFAULTS = {'retries': 2}\nBASE = 4\n\n\nclass Thing:\n    n = BASE\n\n\n"
        "def add(x):\n    return x + BASE\n\n\ndef from_variable():\n    return Variable.get('x')\n"
    )
    module = dag_file(
        HEAD
        + """
from common_near import DEFAULTS, Thing, add as plus

@task.ray
def f(x):
    return plus(x), DEFAULTS, Thing.n, Thing.__module__
"""
    )
    outcome = home.run(module.f.function, (1,), roots=[tmp_path / "dags"])
    assert outcome.value() == (5, {"retries": 2}, 4, "common_near")


def test_without_source_byte_code_travels(home: DriverHome) -> None:
    pytest.importorskip("cloudpickle")
    namespace: dict[str, Any] = {"OFFSET": 3, "__name__": "__main__"}
    exec("def f(x):\n    return x + OFFSET\n", namespace)
    assert home.call(namespace["f"], 1) == 4


def test_only_what_is_used_travels(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        HEAD
        + """
import pandas
PASSWORD = "geheim"
UNUSED = open("/dev/null")

def other():
    return PASSWORD

@task.ray
def f():
    return 1
"""
    )
    assert home.call(module.f.function) == 1
    sent = b"".join(path.read_bytes() for path in home.folder_of_run.rglob("airfreight_parcel_*/*"))
    assert b"geheim" not in sent
    assert b"pandas" not in sent


REFUSED = {
    "a dag": (
        'DAG_ = DAG("d", schedule=None)\n@task.ray\ndef f():\n    return DAG_.dag_id\n',
        "`DAG_`, which is the DAG",
    ),
    "another task": (
        "@task\ndef g():\n    return 1\n@task.ray\ndef f():\n    return g()\n",
        "`g`, which is a task itself",
    ),
    "a task's output": (
        (
            "with DAG('d', schedule=None):\n    @task\n    def g():\n        return 1\n    out = g()\n    @task.ray\n"
            "    def f():\n        return out\n"
        ),
        "`out`, which is the output of a task",
    ),
    "an open file": (
        (
            "def flow():\n    file = open('/dev/null')\n    @task.ray\n    def f():\n        return file.name\n"
            "    return f\nf = flow()\n"
        ),
        "cannot store `file`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_leave_is_refused_by_name(home: DriverHome, dag_file: Load, name: str) -> None:
    text, said = REFUSED[name]
    module = dag_file(HEAD + text)
    with pytest.raises(InvalidError) as caught:
        home.call(module.f.function)
    assert said in str(caught.value)


def test_a_method_is_refused(home: DriverHome) -> None:
    class Thing:
        def run(self) -> int:
            return 1

    with pytest.raises(InvalidError, match="it is a method, not a function"):
        home.call(Thing().run)
