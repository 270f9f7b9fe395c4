"""
Keeps Airflow from printing values that are too long to print.

Airflow walks and prints every argument of a task for its *Rendered Template* view, and logs what a Python task
returns, however large. For a list of a million numbers that takes longer than all the rest of the task. What is shown
in its place is a description; the values themselves are never touched.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: Their text is short by itself.
_BRIEF_LIBRARIES = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn", "torch", "xarray", "xgboost"})

_ITEMS_MAX = 1000
_CHARACTERS_MAX = 10_000

#: Above that, a template prints a description of a value in place of its text.
PRINTED_BYTES_MAX = 1024 * 1024

_RUNNER = "airflow.sdk.execution_time.task_runner"
_RENDERED_FIELDS = "_serialize_rendered_fields"
_LOG_MEMBERS = ("_log", "_cached_logger")
_RETURNED = "Done. Returned value was:"

#: Values that became arguments of the task that is being prepared, by their id, with what is shown for them.
_arguments: dict[int, tuple[Any, str]] = {}


def is_long(value: Any) -> bool:
    """Whether the text of a value is long, found out in bounded time."""
    waiting = [value]
    seen = characters = 0
    while waiting:
        item = waiting.pop()
        seen += 1
        held: Collection[Any] = ()
        if isinstance(item, str | bytes | bytearray):
            characters += len(item)
        elif isinstance(item, dict | list | tuple | set | frozenset):
            held = item
        elif type(item).__module__.partition(".")[0] not in _BRIEF_LIBRARIES:
            held = getattr(item, "__dict__", {}).values()
        if seen + len(waiting) + len(held) > _ITEMS_MAX or characters > _CHARACTERS_MAX:
            return True
        waiting.extend(held)
        if isinstance(item, dict):
            waiting.extend(item.values())
    return False


def describe(value: Any) -> str:
    """What is shown in place of a long value."""
    from airfreight import codec

    type_name, preview = codec.describe(value)
    return f"{type_name} {json.dumps(preview, ensure_ascii=False)} (in brief, because it is long)"


def shorten_argument(value: Any) -> None:
    """Have Airflow show a description of a value that is about to become an argument of a task."""
    if not is_long(value) or not _install():
        return
    _arguments[id(value)] = (value, describe(value))


def forget_arguments() -> None:
    """The task begins: from now on, what its arguments occupy is its own business."""
    _arguments.clear()


def _install() -> bool:
    """
    Wrap the function with which Airflow prints a task's arguments, in this process.

    It is not public. Where it is missing, arguments are printed as ever.
    """
    runner = sys.modules.get(_RUNNER)
    original = getattr(runner, _RENDERED_FIELDS, None)
    if runner is None or original is None:
        return False
    if not isinstance(original, _RenderedFields):
        setattr(runner, _RENDERED_FIELDS, _RenderedFields(original))
    return True


class _RenderedFields:
    """Airflow's function, called with a view of the task in which long arguments are short."""

    def __init__(self, original: Callable[[Any], Any]) -> None:
        self._original = original

    def __call__(self, task: Any) -> Any:
        return self._original(_BriefTask(task) if _arguments else task)


class _BriefTask:
    """A task whose template fields show descriptions where the values are long."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._task, name)
        return _in_brief(value) if name in self._task.template_fields else value


def _in_brief(value: Any) -> Any:
    known = _arguments.get(id(value))
    if known is not None:
        return known[1]
    if type(value) is dict:
        return {key: _in_brief(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_in_brief(item) for item in value)
    return value


class BriefLog:
    """A task's logger that shows a description where ``PythonOperator`` logs a long return value."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def info(self, event: Any, *arguments: Any, **fields: Any) -> Any:
        """Log, as the logger within does."""
        if isinstance(event, str) and event.startswith(_RETURNED):
            arguments = tuple(describe(each) if is_long(each) else each for each in arguments)
        if isinstance(self._log, logging.Logger):
            fields["stacklevel"] = fields.get("stacklevel", 1) + 1
        return self._log.info(event, *arguments, **fields)


def shorten_log(task: Any) -> None:
    """Have a Python task log a description of what it returns, if that is long."""
    if not getattr(task, "show_return_value_in_logs", False):
        return
    brief = BriefLog(task.log)
    # Where an operator keeps its logger: there is no setter. If it is elsewhere, values are logged as ever.
    for name in _LOG_MEMBERS:
        if task.log is not brief and hasattr(task, name):
            setattr(task, name, brief)


def for_template(value: Any, size: str) -> Any:
    """
    The same value for a Jinja template, with a short text of its own where the type's would be long.

    Strings stay, because their text is what they are for; everything but printing works as ever.
    """
    kind = _BRIEF_TYPES.get(type(value))
    if kind is None:
        return value
    brief = kind(value)
    brief.text = (
        # No character in it means anything to a shell, for which the text may be.
        f"[{type(value).__name__} of {len(value)} elements, {size}, too long to print. Use it in a Python task, or "
        f"print all of it with a filter such as tojson]"
    )
    return brief


class _BriefList(list[Any]):
    __slots__ = ("text",)
    text: str

    def __str__(self) -> str:
        return self.text


class _BriefDict(dict[Any, Any]):
    __slots__ = ("text",)
    text: str

    def __str__(self) -> str:
        return self.text


_BRIEF_TYPES: dict[type, type[_BriefList | _BriefDict]] = {list: _BriefList, dict: _BriefDict}


class Distant:
    """
    A large value in a Ray cluster for a Jinja template: it is fetched when more is wanted of it than its text.

    :param type_name: the value's type.
    :param size: its size, for people.
    :param fetch: gets it.
    """

    def __init__(self, type_name: str, size: str, fetch: Callable[[], Any]) -> None:
        self._text = f"[{type_name}, {size}, in a Ray cluster, too long to print. Use it in a Python task]"
        self._fetch = fetch
        self._value: Any = None
        self._is_here = False

    def _real(self) -> Any:
        if not self._is_here:
            self._value = self._fetch()
            self._is_here = True
        return self._value

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __getitem__(self, key: Any) -> Any:
        return self._real()[key]

    def __iter__(self) -> Any:
        return iter(self._real())

    def __len__(self) -> int:
        return len(self._real())

    def __bool__(self) -> bool:
        return bool(self._real())

    def __contains__(self, item: Any) -> bool:
        return item in self._real()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return bool(self._real() == other)

    def __hash__(self) -> int:
        return id(self)
