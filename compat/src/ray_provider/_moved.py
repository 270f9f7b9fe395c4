"""Names that live elsewhere now: imported when they are used, with a warning that says from where."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Moved(NamedTuple):
    """Where a name is: what users are to write from now on, and what they get until then if that is another thing."""

    to: str
    stand_in: str = ""


def moved(module: str, names: Mapping[str, Moved]) -> Callable[[str], Any]:
    """
    Make the ``__getattr__`` of a module whose names have moved.

    :param module: the name of the module.
    :param names: by old name, the new place as ``package.module.name``.
    """

    def resolve(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place = names[name]
        home, _, attribute = (place.stand_in or place.to).rpartition(".")
        value = getattr(import_module(home), attribute)
        # From here on the module has the name, so that this is asked once.
        setattr(sys.modules[module], name, value)
        package, _, new = place.to.rpartition(".")
        warnings.warn(f"{module}.{name} has moved: from {package} import {new}", DeprecationWarning, stacklevel=2)
        return value

    return resolve
