"""
Values of the Python data ecosystem that must come back as they were.

A case is a function that makes a value, the same one in every process. ``EXACT`` holds all of them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

Case = Callable[[], Any]

_MODULES = {
    "plain": None,
    "containers": None,
    "classes": "pydantic",
    "arrays": "numpy",
    "frames": "pandas",
    "arrow": "pyarrow",
    "polar": "polars",
    "models": "sklearn",
}


def _collect() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, needs in _MODULES.items():
        if needs is None or find_spec(needs) is not None:
            module = import_module(f"codec.cases.{name}")
            found.update({f"{name}-{case}": make for case, make in module.CASES.items()})
    return found


EXACT: dict[str, Case] = _collect()
