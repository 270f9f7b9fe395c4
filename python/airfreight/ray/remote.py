"""
An exception that was raised on the cluster, rebuilt here so that a log shows it as it would at home.

Its type, text, notes, causes and groups are those of the original, and its traceback has the lines of the user's own
file: for each line that the driver has told of, an empty function of that file, name and position is called, and its
frame is kept. What was raised is never unpickled, so it needs neither the cluster's libraries nor trust in them.
"""

from __future__ import annotations

import ast
import builtins
import functools
import linecache
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

# Exceptions that tell Airflow what to make of the task; the cluster need not have Airflow to raise them.
_SIGNALS = frozenset(
    {
        "AirflowException",
        "AirflowFailException",
        "AirflowSkipException",
        "AirflowSensorTimeout",
        "AirflowTaskTimeout",
    }
)


class RemoteError(Exception):
    """
    A function has failed on a Ray cluster.

    What is raised is of a class of its own, made of this one and of the type that was raised there, if this process
    knows it: who catches a ``ValueError`` at home catches it here.
    """

    #: The type that was raised, as one would import it.
    remote_type: str
    #: What it said.
    remote_text: str


class _Told:
    """Says what the original said, whatever its class would make of it."""

    remote_text: str

    def __str__(self) -> str:
        return self.remote_text

    def __reduce__(self) -> Any:
        return _portable, (getattr(self, "remote_type", ""), self.remote_text)


def _portable(remote_type: str, text: str) -> RemoteError:
    """The same for another process, which may not be able to make the class."""
    error = RemoteError(f"{remote_type}: {text}")
    error.remote_type, error.remote_text = remote_type, text
    return error


def rebuild(told: dict[str, Any]) -> Exception:
    """
    Makes the exception that the driver has described.

    :param told: what :func:`airfreight.ray.report.describe` made of it.
    """
    error = _rebuild(told)
    assert isinstance(error, Exception)
    return error


def _rebuild(told: dict[str, Any]) -> BaseException:
    module, name = told["module"], told["type"]
    cls = _class(module, name, tuple(told["bases"]))
    parts = [_rebuild(part) for part in told.get("exceptions", ())]
    if parts and issubclass(cls, BaseExceptionGroup):
        error: Any = cls.__new__(cls, told["text"], parts)
        count = len(parts)
        told = told | {"text": f"{told['text']} ({count} sub-exception{'' if count == 1 else 's'})"}
    else:
        error = cls.__new__(cls)
    error.remote_type = name if module in ("builtins", "__main__") else f"{module}.{name}"
    error.remote_text = told["text"]
    if not isinstance(error, BaseExceptionGroup):
        error.args = (told["text"],)
    if isinstance(error, SyntaxError) and told.get("syntax"):
        error.filename, error.lineno, error.offset, error.text = told["syntax"]
        error.msg = told["text"]
    for note in told.get("notes", ()):
        error.add_note(note)
    if "cause" in told:
        error.__cause__ = _rebuild(told["cause"])
    if "context" in told:
        error.__context__ = _rebuild(told["context"])
    error.__suppress_context__ = told["suppress"]
    traced: BaseException = error.with_traceback(_traceback(told["frames"]))
    return traced


@functools.lru_cache(64)
def _class(module: str, name: str, bases: tuple[str, ...]) -> type[BaseException]:
    """A class that prints as the original's, and is caught as what this process knows of it."""
    short, body = name.rpartition(".")[2], {"__module__": module, "__qualname__": name}
    for candidate in (f"{module}.{name}", *bases):
        known = _known(candidate)
        if known is None:
            continue
        try:
            cls = type(short, (_Told, RemoteError, known), body)
        except TypeError:
            continue  # of a shape that doesn't mix, as those of some C libraries
        try:
            made: Any = cls.__new__(cls, "", [Exception()]) if issubclass(cls, BaseExceptionGroup) else cls.__new__(cls)
            made.remote_text = ""
        except Exception:  # noqa: BLE001, S112 - then it can't be made from outside
            continue
        return cls
    return type(short, (_Told, RemoteError), body)


def _known(path: str) -> type[Exception] | None:
    """A class of exceptions, if this process has it: nothing is imported for it but Airflow's own."""
    module_name, _, name = path.rpartition(".")
    if name in _SIGNALS and module_name.partition(".")[0] == "airflow":
        from airfreight.ray import versions

        found = getattr(versions.exceptions(), name, None)
    else:
        module = builtins if module_name == "builtins" else sys.modules.get(module_name)
        found = getattr(module, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _traceback(frames: list[Any]) -> TracebackType | None:
    following: TracebackType | None = None
    for file, name, line, *position in reversed(frames):
        following = _frame(file, name, line, position, following)
    return following


def _frame(
    file: str, name: str, line: str, position: list[int | None], following: TracebackType | None
) -> TracebackType | None:
    number, end_number, start, end = position
    shown = _shown(file, number or 1, line)
    code = _stub(shown, name, number or 1, end_number, start, end)
    try:
        exec(code, {"__name__": "airfreight.ray.remote", "__file__": shown}, {})  # noqa: S102 - a division by zero
    except ZeroDivisionError as error:
        trace = error.__traceback__
        assert trace is not None
        assert trace.tb_next is not None
        stub = trace.tb_next
        return TracebackType(following, stub.tb_frame, stub.tb_lasti, stub.tb_lineno)
    return following


@functools.lru_cache(512)
def _stub(file: str, name: str, number: int, end_number: int | None, start: int | None, end: int | None) -> Any:
    """Code that fails at one place of a file, in a function of that name."""
    failing = ast.parse("1 / 0", mode="exec").body[0]
    for node in ast.walk(failing):
        if hasattr(node, "lineno"):
            at: Any = node
            at.lineno, at.end_lineno = number, end_number or number
            at.col_offset, at.end_col_offset = (start, end) if start is not None and end is not None else (0, 0)
    code = compile(ast.Module([failing], []), file, "exec", dont_inherit=True)
    return code.replace(co_name=name, co_qualname=name)


def _shown(file: str, number: int, line: str) -> str:
    """
    The file's name under which tracebacks find the line.

    A file of the cluster that isn't here, or is another one here, is shown with what the driver has sent of it.
    """
    if not line or linecache.getline(file, number).rstrip() == line:
        return file
    name = f"{file} (on the cluster)" if Path(file).exists() else file
    known = linecache.cache.get(name)
    lines = list(known[2]) if known is not None and len(known) == 4 else []
    lines.extend(["\n"] * (number - len(lines)))
    lines[number - 1] = line + "\n"
    linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    return name
