"""What Airflow is about to do with a value that it reads: nothing but the call stack tells."""

from __future__ import annotations

import enum
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_FRAMES_MAX = 100


#: Whether Airfreight itself reads arguments for a task on Ray.
_taking: ContextVar[bool] = ContextVar("airfreight_taking_handles", default=False)

#: What calls a function of the user's with each value, which must be the real one.
_MAPPERS = frozenset({"MapXComArg", "_MapResult"})

_RENDERERS = frozenset({"render_template", "render_template_fields", "_do_render_template_fields"})


class Purpose(enum.Enum):
    """Why a value is read."""

    #: A mapped task resolves the list that it expands over, to take one element.
    EXPAND = enum.auto()
    #: It becomes an argument of a task.
    RENDER = enum.auto()
    #: A Jinja template works with it; what it prints becomes text.
    PRINT = enum.auto()


def purpose() -> Purpose | None:
    """
    Why Airflow reads the value that is being read; ``None`` when other code asked for it.

    A task that pulls a value itself is other code, and so is a function in ``.map()``, which runs while Airflow
    expands a task.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - as the module says
    is_element = False
    for _ in range(_FRAMES_MAX):
        module = frame.f_globals.get("__name__") or ""
        if module.startswith("airflow.sdk."):
            function = frame.f_code.co_name
            if module.endswith(".lazy_sequence"):
                is_element = True  # one of the results of a mapped task
            elif module.endswith(".expandinput") and function == "resolve" and not is_element:
                return Purpose.EXPAND
            elif module.endswith(".templater") or function == "render_template_fields":
                return Purpose.RENDER
        elif not module.startswith(("airfreight.", "jinja2.")):
            # A compiled template has its environment among its globals, and no name.
            environment = frame.f_globals.get("environment")
            if not type(environment).__module__.startswith(("jinja2.", "airflow.")):
                return None
            is_native = any(base.__name__ == "NativeEnvironment" for base in type(environment).__mro__)
            return Purpose.RENDER if is_native else Purpose.PRINT
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


@contextmanager
def taking_handles() -> Iterator[None]:
    """Whatever is read meanwhile goes to Ray."""
    token = _taking.set(True)
    try:
        yield
    finally:
        _taking.reset(token)


def takes_handles() -> bool:
    """
    Whether the value that is being read becomes an argument of a task on Ray, which needs to know only where it is.

    A Jinja template works with real values, and so does a function in ``.map()``.
    """
    frame = sys._getframe(1)  # noqa: SLF001 - as the module says
    for _ in range(_FRAMES_MAX):
        module = frame.f_globals.get("__name__") or ""
        if module.startswith("airflow.sdk."):
            myself = frame.f_locals.get("self")
            if module.endswith(".xcom_arg") and type(myself).__name__ in _MAPPERS:
                return False
            if frame.f_code.co_name in _RENDERERS and _is_on_ray(myself):
                return True
        elif not module.startswith("airfreight."):
            return False
        elif module == "airfreight.ray.arguments":
            return _taking.get()
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _is_on_ray(operator: Any) -> bool:
    # A mapped operator knows the class of what it makes.
    return bool(getattr(getattr(operator, "operator_class", type(operator)), "takes_ray_values", False))
