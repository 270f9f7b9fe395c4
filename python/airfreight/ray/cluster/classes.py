"""
Classes that a DAG file defines, on their way with a value of theirs from one call to the next.

A pickle refers to a class by its module, and in a cluster no file has that one: each call brings the pieces of it that
its own function uses, which may lack the class of a value that it takes. So such classes go along with the value, as
cloudpickle packs them. At home, where the file is, they are left out.
"""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import Any

_lent: set[str] = set()


def take_along(types: list[type], modules: Any) -> bytes | None:
    """
    Packs those of some classes that modules of a parcel define.

    :returns: ``None`` if there are none.
    """
    own = {(cls.__module__, cls.__qualname__): cls for cls in types if cls.__module__ in modules}
    if not own:
        return None
    from ray import cloudpickle

    packed: bytes = cloudpickle.dumps(own)
    return packed


def lend(packed: bytes) -> None:
    """Lets a pickle find classes where the call's own pieces lack them."""
    try:
        found: dict[tuple[str, str], type] = pickle.loads(packed)
    except Exception:  # noqa: BLE001 - another Python's; the value's own error says what is missing
        return
    for (module, name), cls in found.items():
        if module not in sys.modules:
            sys.modules[module] = ModuleType(module)
            _lent.add(module)
        if "." not in name and not hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, cls)


def forget() -> None:
    """Takes out what was lent to a call that is over."""
    while _lent:
        sys.modules.pop(_lent.pop(), None)
