"""
Goal: whatever way a task's function is written and called, it does on the cluster what it would do at home.

Method: DAG files as users write them, imported as Airflow does; the driver in a process of its own that has neither
Airflow nor the file.
"""

from __future__ import annotations

import datetime
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from driver_home import DriverHome, interpreter

from airfreight.errors import InvalidError

Load = Callable[[str], ModuleType]

HEAD = """
from airflow.sdk import DAG, task
from airfreight.decorators import ray, ray_task
"""

#: What stands in the file, the arguments, and what comes back.
SHAPES: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "no arguments": (
        """
        @task.ray
        def f():
            return 7
        """,
        (),
        {},
        7,
    ),
    "keywords only": (
        """
        @task.ray
        def f(*, a, b=2):
            return a, b
        """,
        (),
        {"a": 1},
        (1, 2),
    ),
    "positional, keywords and both catch-alls": (
        """
        @ray_task
        def f(a, /, b, *rest, c, **more):
            return a, b, rest, c, more
        """,
        (1, 2, 3, 4),
        {"c": 5, "d": 6},
        (1, 2, (3, 4), 5, {"d": 6}),
    ),
    "a decorator over several lines": (
        """
        @ray.task(
            config={
                "num_cpus": 1,  # @ray.task
            },
        )
        def f(a):
            return a + 1
        """,
        (1,),
        {},
        2,
    ),
    "decorators above": (
        """
        from airflow.sdk import setup

        @task.skip_if(lambda context: False)
        @task.ray(num_cpus=1)
        def f(a):
            return a + 1
        """,
        (1,),
        {},
        2,
    ),
    "a decorator below": (
        """
        import functools

        FACTOR = 3

        def times(factor):
            def decorate(function):
                @functools.wraps(function)
                def wrapper(*args):
                    return factor * function(*args)
                return wrapper
            return decorate

        @task.ray
        @times(FACTOR)
        def f(a):
            return a + 1
        """,
        (1,),
        {},
        6,
    ),
    "a decorator below that doesn't say what it wraps": (
        """
        def twice(function):
            def f(*args):
                return function(function(*args))
            return f

        @task.ray
        @twice
        def f(a):
            return a + 1
        """,
        (1,),
        {},
        3,
    ),
    "a module's global": (
        """
        THRESHOLD = int("41")
        LIMITS = {"low": [1, 2]}

        @task.ray
        def f():
            return THRESHOLD + LIMITS["low"][0]
        """,
        (),
        {},
        42,
    ),
    "a module's import": (
        """
        import math
        import os.path
        import xml.dom.minidom

        @task.ray
        def f():
            return math.floor(1.5), os.path.basename("a/b"), xml.dom.minidom.parseString("<a/>").firstChild.tagName
        """,
        (),
        {},
        (1, "b", "a"),
    ),
    "an import under another name": (
        """
        import numpy as np, math as m
        from collections import (
            OrderedDict as Ordered,
            Counter,
        )

        @task.ray
        def f():
            return float(np.ones(2).sum()), m.pi, list(Ordered(a=1)), Counter("aab")["a"]
        """,
        (),
        {},
        (2.0, math.pi, ["a"], 2),
    ),
    "an annotation that needs an import": (
        """
        from __future__ import annotations
        from airflow.sdk import task
        from typing import TYPE_CHECKING
        import pandas as pd
        if TYPE_CHECKING:
            from nowhere import Something

        @task.ray
        def f(frame: Something, more: pd.DataFrame | None = None) -> list[Something]:
            local: Something = frame
            return local
        """,
        (3,),
        {},
        3,
    ),
    "an annotation that is evaluated here": (
        """
        from airflow.sdk import Context

        @task.ray
        def f(a: Context) -> Context:
            return a
        """,
        (3,),
        {},
        3,
    ),
    "a name imported for type checkers only": (
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import fractions

        @task.ray
        def f():
            return str(fractions.Fraction(1, 2))
        """,
        (),
        {},
        "1/2",
    ),
    "an import that may fail": (
        """
        try:
            import decimal
            import nowhere_at_all as nowhere
        except ImportError:
            decimal = nowhere = None

        @task.ray
        def f():
            return decimal is None, nowhere is None
        """,
        (),
        {},
        (False, True),
    ),
    "helpers of helpers": (
        """
        import math

        BASE = 10

        def double(x):
            return 2 * x

        async def never():
            pass

        class Scale:
            factor = BASE

            def apply(self, x):
                return self.factor * double(x) + math.floor(0.5)

        def scaled(x, scale=Scale()):
            return scale.apply(x)

        @task.ray
        def f(x):
            return scaled(x)
        """,
        (2,),
        {},
        40,
    ),
    "classes of every kind": (
        """
        import dataclasses
        import enum
        from collections import namedtuple
        from dataclasses import dataclass, field
        from typing import ClassVar, NamedTuple, NewType, TypeVar

        T = TypeVar("T")
        Id = NewType("Id", int)
        Point = namedtuple("Point", "x y")
        Level = enum.IntEnum("Level", "LOW HIGH")

        class Pair(NamedTuple):
            left: int
            right: "Pair | None" = None

        @dataclass(frozen=True)
        class Row:
            kind: ClassVar[str] = "row"
            name: str = "a"
            values: list[int] = field(default_factory=list)

        class Color(enum.Enum):
            RED = 1

            @property
            def next(self):
                return Level.HIGH

        @task.ray
        def f():
            row = dataclasses.replace(Row(), name=str(Id(3)))
            return repr(row), Point(1, 2).y, Pair(1).left, Color.RED.next.name, T.__name__
        """,
        (),
        {},
        ("Row(name='3', values=[])", 2, 1, "HIGH", "T"),
    ),
    "a pydantic model": (
        """
        from __future__ import annotations
        from airflow.sdk import task
        from pydantic import BaseModel
        from typing import Optional

        class Inner(BaseModel):
            n: int

        class Model(BaseModel):
            inner: Inner
            more: Optional[Inner] = None

        @task.ray
        def f(n):
            return Model(inner={"n": n}).model_dump()
        """,
        ("3",),
        {},
        {"inner": {"n": 3}, "more": None},
    ),
    "a function in a function": (
        """
        def flow(n):
            limit = n * 2
            names = ["a", "b"]

            def helper(x):
                return x + limit

            @task.ray(
                num_cpus=1,
            )
            def f(x, *, times=n + 1):
                def inner():
                    return helper(x) * times
                return inner(), names
            return f

        f = flow(3)
        """,
        (1,),
        {},
        (28, ["a", "b"]),
    ),
    "in a with statement": (
        """
with DAG("one", schedule=None):
    LIMIT = 5

    if True:
        @task.ray
        def f(x):
            text = '''
# not a comment
  and not
        indented'''
            return x + LIMIT, text.splitlines()[1]
""",
        (1,),
        {},
        (6, "# not a comment"),
    ),
    "one of several imports and definitions": (
        """
        try:
            import nowhere_at_all as codec
        except ImportError:
            import json as codec

        try:
            from nowhere_at_all import add
        except ImportError:
            def add(a, b):
                return a + b

        if False:
            def pick():
                return 1
        else:
            def pick():
                return 2

        if True:
            def last():
                return "first"
        else:
            def last():
                return "second"

        @task.ray
        def f():
            return codec.loads("[1]"), add(1, 2), pick(), last()
        """,
        (),
        {},
        ([1], 3, 2, "first"),
    ),
    "odd characters in the source": (
        """
        SEPARATORS = "\x1c\x1e\u2028"
        @task.ray
        def f():
            text = '\x0c\u2028'
            return text, SEPARATORS, inner(1)

        inner = lambda x: (
            x, '\u2028\x1d'
        )
        """,
        (),
        {},
        ("\x0c\u2028", "\x1c\x1e\u2028", (1, "\u2028\x1d")),
    ),
    "a function that calls itself": (
        """
        @task.ray
        def f(n):
            return 1 if n < 2 else n * f(n - 1)
        """,
        (5,),
        {},
        120,
    ),
    "nested functions that call each other": (
        """
        def flow():
            def even(n):
                return n == 0 or odd(n - 1)

            def odd(n):
                return n != 0 and even(n - 1)

            @task.ray
            def f(n):
                return [even(n), odd(n), depth(n)]

            def depth(n):
                return 0 if n == 0 else 1 + depth(n - 1)
            return f

        f = flow()
        """,
        (5,),
        {},
        [False, True, 5],
    ),
    "one factory called twice": (
        """
        def adder(n):
            def add(x):
                return x + n
            return add

        one, two = adder(1), adder(2)

        @task.ray
        def f(x):
            return one(x), two(x)
        """,
        (10,),
        {},
        (11, 12),
    ),
    "lambdas": (
        """
        strip = lambda text: text.strip()

        def flow(n):
            add, times = lambda x: x + n, lambda x: x * n

            @task.ray
            def f(x):
                return strip(x), add(1), times(4), (lambda y=n: y)()
            return f

        f = flow(3)
        """,
        (" a ",),
        {},
        ("a", 4, 12, 3),
    ),
    "a function that is awaited": (
        """
        import asyncio

        @task.ray
        async def f(x):
            await asyncio.sleep(0)
            return x + 1
        """,
        (1,),
        {},
        2,
    ),
    "decorated by a call": (
        """
        def plain(x):
            return x + 1

        f = task.ray(num_cpus=2)(plain)
        """,
        (1,),
        {},
        2,
    ),
    "signs beyond ASCII": (
        """
        GRÖSSE = "ä"

        @task.ray
        def f(wörter, größe=GRÖSSE + "é"):
            return [wort + größe for wort in wörter]
        """,
        (["€"],),
        {},
        ["€äé"],
    ),
    "a class in a function": (
        """
        def flow(n):
            class Local:
                limit = 4

                def get(self):
                    return self.limit + n

            @task.ray
            def f():
                return Local().get()
            return f

        f = flow(1)
        """,
        (),
        {},
        5,
    ),
    "logging and warnings": (
        """
        import logging

        log = logging.getLogger(__name__)

        @task.ray
        def f():
            log.info("known %s", 1)
            return log.name.rpartition("_")[2]
        """,
        (),
        {},
        "flow",
    ),
    "what has changed since": (
        """
        COUNT = 0
        REGISTRY = {}

        def register(name):
            global COUNT
            COUNT += 1
            REGISTRY[name] = COUNT

        register("a")
        register("b")

        @task.ray
        def f():
            return COUNT, REGISTRY
        """,
        (),
        {},
        (2, {"a": 1, "b": 2}),
    ),
    "a global that the function sets": (
        """
        STATE = 1

        @task.ray
        def f():
            global STATE
            STATE += 1
            return STATE
        """,
        (),
        {},
        2,
    ),
}

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
