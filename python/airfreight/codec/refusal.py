"""
What can't be stored, found and named.

Nothing here runs while a value goes through: the pickler fails first. Then the value is walked to the innermost part
that can't be pickled, without consuming any of it.
"""

from __future__ import annotations

import types
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How deep and how wide the walk may get; beyond, the error names the last part that it reached.
_DEPTH_MAX = 200
_PARTS_MAX = 1_000_000


class UnstorableError(InvalidError):
    """
    A value, or a part of it, can't be stored.

    :param path: where the part is, as one would write it behind the value: ``["rows"][3].conn``.
    :param type_name: the type of that part.
    :param reason: why it can't be stored.
    :param hint: what to return instead.
    :param subject: what the path starts from.
    """

    def __init__(
        self, path: str, type_name: str, reason: str, hint: str | None = None, *, subject: str = "result"
    ) -> None:
        super().__init__(f"cannot store {subject}{path}: {reason}", hint)
        self.path = path
        self.type_name = type_name
        self.reason = reason

    def within(self, subject: str) -> UnstorableError:
        """The same for a value with another name, such as ``task 'extract': result``."""
        error = UnstorableError(self.path, self.type_name, self.reason, self.hint, subject=subject)
        return error.with_traceback(self.__traceback__)


class RefusedError(Exception):
    """Raised by a reducer for a value that must not be stored, although pickle might do it."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason, hint)
        self.reason = reason
        self.hint = hint


# What to return instead of what can't be pickled, by the name of a class in the type's ancestry.
_HINTS = {
    "builtins.generator": "return a list: `return list(rows)`",
    "builtins.async_generator": "return a list of what it yields",
    "builtins.coroutine": "await it and return its result",
    "builtins.dict_keys": "return a list: `return list(value.keys())`",
    "builtins.dict_values": "return a list: `return list(value.values())`",
    "builtins.dict_items": "return a dict or a list of its pairs",
    "builtins.module": "import the module in the task that uses it",
    "builtins.frame": "return text, such as `traceback.format_exc()`",
    "builtins.traceback": "return text, such as `traceback.format_exc()`",
    "builtins.code": "return a function that is defined at the top level of a file",
    "builtins.function": "define the function at the top level of a file, with a name, and return that",
    "builtins.type": "define the class at the top level of a file",
    "weakref.ReferenceType": "return the object itself",
    "mmap.mmap": "return its bytes, or the path of the file",
    "_io._IOBase": "return what the file holds, or its path",
    "tempfile._TemporaryFileWrapper": "return what the file holds; the file itself is gone when the task ends",
    "socket.socket": "return the address, and connect in the task that uses it",
    "_thread.lock": "leave it out: a lock guards one process, and the next task is another",
    "_thread.RLock": "leave it out: a lock guards one process, and the next task is another",
    "_thread._local": "leave it out: it belongs to one thread",
    "threading.Thread": "join the thread and return its result",
    "multiprocessing.process.BaseProcess": "join the process and return its result",
    "subprocess.Popen": "wait for the process and return its output",
    "concurrent.futures._base.Future": "return its result: `return future.result()`",
    "concurrent.futures._base.Executor": "make the executor in the task that uses it",
    "asyncio.futures.Future": "await it and return its result",
    "_asyncio.Future": "await it and return its result",
    "queue.Queue": "return a list of what it holds",
    "contextvars.Context": "return the values that you need of it",
    "sqlite3.Connection": "return the connection id, or the rows; connect in the task that uses it",
    "sqlite3.Cursor": "return the rows: `return cursor.fetchall()`",
    "xgboost.core.DMatrix": "return the data and the labels; make the matrix in the task that trains",
    "torch.Tensor": "return `tensor.detach()`",
}

# What pickle would take, or fail on somewhere inside, but which means nothing in another task (or is a secret).
_CONNECTION_HINT = "return the connection id; the next task gets the connection by it"
_NEVER: dict[str, tuple[str, str]] = {
    "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance": (
        "a task instance belongs to the run of its task",
        "return the fields that you need, such as `ti.run_id`",
    ),
    "airflow.models.taskinstance.TaskInstance": (
        "a task instance belongs to the run of its task",
        "return the fields that you need, such as `ti.run_id`",
    ),
    "airflow.sdk.definitions.connection.Connection": ("a connection holds credentials", _CONNECTION_HINT),
    "airflow.models.connection.Connection": ("a connection holds credentials", _CONNECTION_HINT),
    "airflow.sdk.bases.hook.BaseHook": ("a hook holds credentials and open connections", _CONNECTION_HINT),
    "airflow.hooks.base.BaseHook": ("a hook holds credentials and open connections", _CONNECTION_HINT),
    "airflow.sdk.bases.operator.BaseOperator": ("an operator is part of the DAG", "return its `task_id`"),
    "airflow.sdk.definitions._internal.abstractoperator.AbstractOperator": (
        "an operator is part of the DAG",
        "return its `task_id`",
    ),
    "airflow.sdk.definitions.dag.DAG": ("a DAG is code", "return its `dag_id`"),
    "airflow.sdk.execution_time.context.VariableAccessor": ("it reads variables here", "return the values"),
    "airflow.sdk.execution_time.context.ConnectionAccessor": ("a connection holds credentials", _CONNECTION_HINT),
    "sqlalchemy.engine.base.Engine": ("an engine holds open connections", _CONNECTION_HINT),
    "sqlalchemy.engine.base.Connection": ("it is an open connection", _CONNECTION_HINT),
    "sqlalchemy.orm.session.Session": ("it is an open connection", _CONNECTION_HINT),
    "sqlalchemy.engine.cursor.CursorResult": ("it reads from an open connection", "return the rows: `result.all()`"),
    "sqlalchemy.engine.result.Result": ("it reads from an open connection", "return the rows: `result.all()`"),
    "threading.Thread": ("a thread lives in one process", _HINTS["threading.Thread"]),
    "multiprocessing.process.BaseProcess": (
        "a process belongs to its parent",
        _HINTS["multiprocessing.process.BaseProcess"],
    ),
    "subprocess.Popen": ("a process belongs to its parent", _HINTS["subprocess.Popen"]),
    "concurrent.futures._base.Executor": (
        "its threads live in one process",
        _HINTS["concurrent.futures._base.Executor"],
    ),
    "concurrent.futures._base.Future": ("its result arrives in one process", _HINTS["concurrent.futures._base.Future"]),
    "threading.Condition": ("it guards one process", _HINTS["_thread.lock"]),
    "threading.Event": ("it guards one process", _HINTS["_thread.lock"]),
    "threading.Semaphore": ("it guards one process", _HINTS["_thread.lock"]),
    "threading.Barrier": ("it guards one process", _HINTS["_thread.lock"]),
    "queue.Queue": ("a queue lives in one process", _HINTS["queue.Queue"]),
    "tempfile._TemporaryFileWrapper": ("it is an open file", _HINTS["tempfile._TemporaryFileWrapper"]),
    "tempfile.TemporaryDirectory": (
        "the folder is gone when the task ends",
        "return what it holds, or a path that stays",
    ),
}

# Drivers name their classes alike. One of these that fails inside is named itself, not the socket in it.
_RESOURCE_SUFFIXES = ("Connection", "Cursor", "Session", "Engine", "Client", "Pool", "Channel", "Transaction")

_BECAUSE = {
    "builtins.generator": "a generator can be read only once, here",
    "builtins.coroutine": "a coroutine runs only here",
    "builtins.module": "a module is code",
    "_io._IOBase": "an open file belongs to its process",
    "socket.socket": "an open socket belongs to its process",
    "sqlite3.Connection": "an open connection belongs to its process",
    "sqlite3.Cursor": "an open cursor belongs to its process",
}


def type_name(value: Any) -> str:
    """The name of a value's type as one would import it, without ``builtins``."""
    return name_of(type(value))


def name_of(cls: type) -> str:
    """The name of a type as one would import it, without ``builtins``."""
    found: Any = cls
    return _name_of(found)


@lru_cache(1024)
def _name_of(cls: Any) -> str:
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{_public(module)}.{cls.__qualname__}"


def _public(module: Any) -> str:
    """A module's name as the DAG's author knows it: Airflow imports DAG files under names of its own."""
    if not isinstance(module, str):
        return "?"
    if module.startswith("unusual_prefix_"):
        return module.split("_", 3)[-1]
    # `pandas.core.frame` is where `pandas.DataFrame` is written, not what it is called.
    root, _, rest = module.partition(".")
    return root if root in ("numpy", "pandas", "pathlib", "polars", "pyarrow") and rest else module


def refusing_reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """A reducer that refuses, for types that must not be stored."""
    for base in cls.__mro__:
        found = _NEVER.get(f"{base.__module__}.{base.__qualname__}")
        if found is not None:
            reason, hint = found

            return partial(_refuse, reason, hint)
    return None


def _refuse(reason: str, hint: str, _: Any) -> Any:
    raise RefusedError(reason, hint)


def explain(value: Any, error: BaseException) -> UnstorableError:
    """
    Finds the part of a value that made pickling fail.

    :param value: what was to be stored.
    :param error: what the pickler raised.
    """
    if isinstance(error, RecursionError):
        return UnstorableError(
            "",
            type_name(value),
            f"it is nested too deeply for Python's recursion limit ({type_name(value)})",
            "return a flat structure, such as a list of rows that refer to each other by index",
        )
    trail = _descend(value, error)
    if not isinstance(trail[-1][1], _CODE):
        # A driver's connection rather than the lock or socket inside it.
        for depth, (_, part, _) in enumerate(trail):
            if type(part).__name__.endswith(_RESOURCE_SUFFIXES):
                trail = trail[: depth + 1]
                break
    path = "".join(step for step, _, _ in trail)
    part, cause = trail[-1][1], trail[-1][2]
    reason, hint = _reason(part, cause)
    return UnstorableError(path, type_name(part), reason, hint)


# What is one's own rather than part of a resource.
_CODE = (types.FunctionType, types.ModuleType, types.GeneratorType, types.CoroutineType, type)


def _is_known(cls: type) -> bool:
    """Whether a type is refused as such, not for what is inside it."""
    return any(f"{base.__module__}.{base.__qualname__}" in known for base in cls.__mro__ for known in (_NEVER, _HINTS))


def _descend(value: Any, error: BaseException) -> list[tuple[str, Any, BaseException]]:
    """The way from the whole value to the innermost part that fails: steps, parts, and how each failed."""
    trail = [("", value, error)]
    seen = {id(value)}
    left = _PARTS_MAX
    while len(trail) < _DEPTH_MAX and not _is_known(type(trail[-1][1])):
        for step, part in _parts(trail[-1][1]):
            left -= 1
            if left < 0:
                return trail
            if id(part) in seen or type(part) in _HARMLESS:
                continue
            failure = _try(part)
            if failure is not None:
                seen.add(id(part))
                trail.append((step, part, failure))
                break
        else:
            return trail
    return trail


_HARMLESS = frozenset({str, int, float, bool, bytes, bytearray, type(None), complex})


class _Nowhere:
    def write(self, _: Any, /) -> int:
        return 0

    def add_buffer(self, _: Any, /) -> bool:
        return False


def _try(value: Any) -> BaseException | None:
    from airfreight.codec.pickler import dump

    try:
        dump(value, _Nowhere())
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value consists of, each with the way to write it; never iterates over what that would consume."""
    if isinstance(value, dict):
        for key, part in dict.items(value):
            yield f"[{label(key)}]", part
            yield f".keys()[{label(key)}]", key
    elif isinstance(value, tuple) and hasattr(type(value), "_fields"):
        fields: Any = type(value)
        for field, part in zip(fields._fields, tuple.__iter__(value), strict=False):
            yield f".{field}", part
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate((list if isinstance(value, list) else tuple).__iter__(value)):  # type: ignore[arg-type]
            yield f"[{index}]", part
    elif isinstance(value, (set, frozenset)):
        for part in set(value):
            yield f"{{{label(part)}}}", part
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)):
        return
    elif _is_frame(value):
        for position, column in enumerate(value.columns):
            yield f"[{label(column)}]", value.iloc[:, position]
    elif _is_object_array(value):
        for index, part in enumerate(value.tolist() if value.ndim == 1 else value.reshape(-1).tolist()):
            yield f"[{index}]", part
    else:
        yield from _attributes(value)


def _is_frame(value: Any) -> bool:
    return name_of(type(value)) == "pandas.DataFrame"


def _is_object_array(value: Any) -> bool:
    return name_of(type(value)) in ("pandas.Series", "numpy.ndarray", "pandas.Index") and str(value.dtype) == "object"


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    seen = set()
    for name, part in list(getattr(value, "__dict__", {}).items()):
        seen.add(name)
        yield f".{name}", part
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = cls.__dict__.get(name)
            if name not in seen and isinstance(member, types.MemberDescriptorType):
                try:
                    yield f".{name}", member.__get__(value)
                except AttributeError:
                    continue


def label(key: Any) -> str:
    """A key as one would write it, bounded; only of types whose ``repr`` is ours to trust."""
    if type(key) is str:
        text = f'"{key}"'
        return text if len(text) <= 60 else f'{text[:56]}…"'
    if type(key) in (int, float, bool, bytes, type(None), tuple):
        text = repr(key)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return f"<{type_name(key)}>"


def _reason(part: Any, error: BaseException) -> tuple[str, str | None]:
    """Why a part can't be stored, and what to return instead."""
    name = type_name(part)
    if isinstance(error, RefusedError):
        return f"a {name}: {error.reason}", error.hint
    if isinstance(part, (types.FunctionType, types.BuiltinFunctionType)):
        where = getattr(part, "__qualname__", "?")
        if part.__name__ == "<lambda>":
            return "a lambda has no name to find it by", _HINTS["builtins.function"]
        if "<locals>" in where:
            return f"the function {where} is defined inside another", _HINTS["builtins.function"]
    if isinstance(part, type) and "<locals>" in part.__qualname__:
        return f"the class {part.__qualname__} is defined inside a function", _HINTS["builtins.type"]
    if "<locals>" in type(part).__qualname__ and "local object" in str(error):
        return f"its class {type(part).__qualname__} is defined inside a function", _HINTS["builtins.type"]
    for base in type(part).__mro__:
        known = f"{base.__module__}.{base.__qualname__}"
        if known in _HINTS:
            return f"a {name}: {_BECAUSE.get(known, _said(error))}", _HINTS[known]
    if type(part).__name__.endswith(_RESOURCE_SUFFIXES):
        return f"a {name}: {_said(error)}", _CONNECTION_HINT
    return f"a {name}: {_said(error)}", "return plain data, or the parts of it that the next task needs"


def _said(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}…"
