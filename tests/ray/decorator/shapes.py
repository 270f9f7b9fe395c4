"""Functions as users write them in DAG files: what stands in the file, the arguments, and what comes back."""

from __future__ import annotations

import math
from typing import Any

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
