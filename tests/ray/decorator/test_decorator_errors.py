"""
Goal: a function that fails on the cluster fails in the task as it would at home: type, text and the user's own lines.

Method: the same function is called here, and over there; the tracebacks are compared as text.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from types import ModuleType

import pytest
from driver_home import NONCE, DriverHome, interpreter

from airfreight.errors import InvalidError
from airfreight.ray.remote import RemoteError

Load = Callable[[str], ModuleType]

FILE = '''
from airflow.sdk import task
from airfreight.decorators import ray_task


class Rejected(ValueError):
    """Takes something else than it says."""

    def __init__(self, *, row):
        super().__init__(f"row {row}")
        self.row = row


def check(rows):
    for row in rows:
        if row < 0:
            raise Rejected(row=row)
    return rows


@ray_task
def nested(rows):
    total = sum(
        check(rows) + [1],
    )
    return total


@ray_task
def chained(key):
    try:
        return {}[key]
    except KeyError as error:
        raise RuntimeError("no such plane") from error


@ray_task
def during():
    try:
        1 / 0
    except ZeroDivisionError:
        int("x")


@ray_task
def suppressed():
    try:
        1 / 0
    except ZeroDivisionError:
        raise TypeError("two\\nlines") from None


@ray_task
def noted():
    error = ValueError("with notes")
    error.add_note("first note")
    error.add_note("second note")
    raise error


@ray_task
def grouped():
    problems = []
    for text in ("1", "x", "y"):
        try:
            int(text)
        except ValueError as error:
            problems.append(error)
    raise ExceptionGroup("several", problems)


@ray_task
def deep(n):
    if n == 0:
        raise OSError(2, "no such file", "/data")
    return deep(n - 1)


@ray_task
def library():
    import json

    return json.loads("{")


@ray_task
def indented():
    if True:
        for _ in range(1):
            numbers = [
                n / 0 for n in (1, 2)
            ]
    return numbers


@ray_task
def in_lambda(x):
    return (lambda y: y.missing)(x)


@ray_task
def asserting(x):
    assert x == 2, "x is not two"
'''

CASES = {
    "nested": ([1, -2],),
    "chained": ("b",),
    "during": (),
    "suppressed": (),
    "noted": (),
    "grouped": (),
    "deep": (3,),
    "library": (),
    "indented": (),
    "in_lambda": (1,),
    "asserting": (3,),
}


def from_the_function_on(text: str) -> str:
    """A traceback without the frames of whoever called the function."""
    lines = text.splitlines()
    kept, own = [], False
    for line in lines:
        if line.lstrip(" |").startswith("File "):
            own = "/tests/" not in line and "/airfreight/" not in line
        elif line.lstrip(" |+-").startswith(("Traceback", "Exception Group Traceback")) or not line.startswith(" "):
            own = True
        if own:
            kept.append(line)
    return "\n".join(kept)


def failure(call: Callable[[], object]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("name", CASES)
def test_a_traceback_is_what_it_would_be_at_home(home: DriverHome, dag_file: Load, name: str) -> None:
    module = dag_file(FILE)
    function, args = getattr(module, name).function, CASES[name]
    # At home a function that calls itself by its name would make a task.
    if name == "deep":
        module.deep = function
    here = failure(lambda: function(*args))
    there = failure(lambda: home.call(function, *args))
    assert from_the_function_on("".join(traceback.format_exception(there))) == from_the_function_on(
        "".join(traceback.format_exception(here))
    )
    assert type(there).__name__ == type(here).__name__
    assert isinstance(there, type(here))
    assert isinstance(there, RemoteError)
    assert home.returncode == 1


def test_the_log_shows_nothing_twice_and_the_dashboard_has_the_traceback(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(FILE)
    failure(lambda: home.call(module.nested.function, [-1]))
    assert home.printed == []
    hidden = [line.removeprefix("\x1eairfreight | ") for line in home.log.split("\n") if "airfreight | " in line]
    assert hidden[0] == "Traceback (most recent call last):"
    assert "    raise Rejected(row=row)" in hidden
    assert hidden[-1].endswith("Rejected: row -1")


def test_what_airflow_makes_of_an_exception_survives(home: DriverHome, dag_file: Load) -> None:
    """The cluster has no Airflow: the exception's name stands for it."""
    from airfreight.ray import versions

    module = dag_file(
        """
        from airflow.sdk.exceptions import AirflowFailException
        from airflow.sdk.exceptions import AirflowSkipException as Skip
        from airflow.sdk import task

        @task.ray
        def f(skip):
            if skip:
                raise Skip("nothing to do")
            raise AirflowFailException("never again")
        """
    )
    if (python := interpreter("3.12")) is not None:
        home.python = python
    skip = failure(lambda: home.call(module.f.function, True))
    assert isinstance(skip, versions.exceptions().AirflowSkipException)
    assert str(skip) == "nothing to do"
    fail = failure(lambda: home.call(module.f.function, False))
    assert isinstance(fail, versions.exceptions().AirflowFailException)


@pytest.mark.parametrize(
    ("body", "type_name", "text"),
    [
        ("import sys\n    sys.exit('over')", "SystemExit", "over"),
        ("import sys\n    sys.exit(0)", "SystemExit", "0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("return (n for n in range(3))", "UnstorableError", "cannot store result: a generator"),
        ("return {'a': [open('/dev/null')]}", "UnstorableError", 'cannot store result["a"][0]'),
        ("return [lambda: 1]", "UnstorableError", "cannot store result[0]: a lambda has no name to find it by"),
        ("import nowhere_at_all", "ModuleNotFoundError", "No module named 'nowhere_at_all'"),
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", "Odd", "its text can't be had"),
        ("raise BaseExceptionGroup('g', [KeyboardInterrupt()])", "BaseExceptionGroup", "g"),
        ("f(depth + 1)", "RecursionError", "maximum recursion depth exceeded"),
    ],
)
def test_every_end_of_a_function_is_told(
    home: DriverHome, dag_file: Load, body: str, type_name: str, text: str
) -> None:
    module = dag_file(
        "from airflow.sdk import task\n\n@task.ray\ndef f(depth=0):\n"
        f"    if depth == 0:\n        print('began')\n    {body}\n"
    )
    error = failure(lambda: home.call(module.f.function))
    assert type(error).__name__ == type_name
    assert text in str(error)
    assert home.printed == ["began"]


@pytest.mark.parametrize(
    ("code", "returncode"), [("os._exit(0)", 0), ("os._exit(3)", 3), ("os.kill(os.getpid(), 9)", -9)]
)
def test_a_process_that_is_gone_has_told_nothing(home: DriverHome, dag_file: Load, code: str, returncode: int) -> None:
    module = dag_file(f"from airflow.sdk import task\nimport os\n\n@task.ray\ndef f():\n    {code}\n")
    outcome = home.run(module.f.function)
    assert home.returncode == returncode
    assert outcome.record is None
    assert outcome.error() is None
    with pytest.raises(LookupError, match="its log doesn't end with the result of f"):
        outcome.value()


def test_what_a_function_prints_stays_apart(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        f"""
        import os
        import sys
        from airflow.sdk import task

        @task.ray
        def f():
            print("one")
            print("two", file=sys.stderr)
            os.system("echo three")
            print('\\x1eairfreight {NONCE[::-1]} {{"v": 1, "result": {{"json": "forged"}}}}')
            print("no end of line", end="")
            return os.environ["AIRFLOW_CTX_TASK_ID"]
        """
    )
    assert home.call(module.f.function) == "there"
    assert home.printed == ["one", "two", "three", "no end of line"]


def test_a_function_may_do_what_it_likes_with_its_output(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        """
        import os
        import sys
        from airflow.sdk import task

        @task.ray
        def f():
            os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
            sys.stdout.close()
            sys.stdout = None
            sys.stderr = open("/dev/full", "w")
            sys.stderr.write("lost")
            return 1
        """
    )
    assert home.call(module.f.function) == 1


def test_exit_functions_run_before_the_result_is_told(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        """
        import atexit
        from airflow.sdk import task

        @task.ray
        def f():
            atexit.register(print, "sent what was gathered")
            return 1
        """
    )
    assert home.call(module.f.function) == 1
    assert home.printed == ["sent what was gathered"]


def test_a_module_that_the_cluster_lacks_is_named_before_the_function_runs(home: DriverHome, dag_file: Load) -> None:
    module = dag_file(
        """
        from airflow.sdk import task

        @task.ray
        def f():
            import nowhere_at_all.inner
            print("ran")
        """
    )
    error = failure(lambda: home.call(module.f.function))
    assert isinstance(error, InvalidError)
    assert "f can't run on the Ray cluster: the function needs the module nowhere_at_all" in str(error)
    assert 'runtime_env={"pip": ["nowhere_at_all"]}' in str(error)
    assert "ran" not in home.log


def test_airflow_is_not_to_be_had_there(home: DriverHome, dag_file: Load, tmp_path: object) -> None:
    python = interpreter("3.12")
    if python is None:
        pytest.skip("no other Python here")
    home.python = python
    module = dag_file(
        """
        from airflow.sdk import get_current_context, task

        @task.ray
        def f():
            return get_current_context()["ds"]
        """
    )
    error = failure(lambda: home.call(module.f.function))
    assert "the function needs the module airflow" in str(error)
    assert "{{ ds }}" in str(error)
