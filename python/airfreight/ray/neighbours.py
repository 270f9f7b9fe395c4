"""
Modules that lie beside the DAG file and are installed nowhere: the cluster gets their files.

Airflow puts the folder of a DAG bundle on Python's path, so DAG files import what lies there; on the cluster nobody
has heard of it.
"""

from __future__ import annotations

import ast
import os
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES_MAX = 20 * 1024 * 1024

_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(slots=True)
class Neighbours:
    """
    The modules of some folders.

    :param roots: the folders: that of the DAG bundle, the DAGs folder.
    """

    roots: list[Path]
    #: The files to ship, by their place on the cluster's path.
    files: dict[str, Path] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def holds(self, file: str | None) -> bool:
        """Whether a file lies in one of the folders and isn't part of an installation."""
        if not file:
            return False
        path = Path(file).absolute()
        return any(path.is_relative_to(root) for root in self.roots) and not is_installed(file)

    def add(self, module_name: str) -> bool:
        """
        Ships the module or package that a name belongs to, and what they import of the same folders.

        :returns: whether it is one of these.
        :raises InvalidError: there is too much of it.
        """
        top = module_name.partition(".")[0]
        if top in self._seen:
            return True
        place = self._place(top)
        if place is None:
            return False
        self._seen.add(top)
        files = _files(place)
        self.files.update({str(path.relative_to(place.parent)): path for path in files})
        total = sum(path.stat().st_size for path in self.files.values())
        if total > BYTES_MAX:
            raise InvalidError(
                f"the modules beside the DAG file that the function imports take {total >> 20} MiB, with {place} more "
                f"than the {BYTES_MAX >> 20} MiB that are shipped",
                "import less, or let the cluster have them: working_dir or py_modules of the runtime environment",
            )
        for path in files:
            if path.suffix == ".py":
                for name in _imported(path):
                    if name not in sys.stdlib_module_names:
                        self.add(name)
        return True

    def names(self) -> set[str]:
        """The names of the top-level modules that are shipped."""
        return set(self._seen)

    def _place(self, top: str) -> Path | None:
        module = sys.modules.get(top)
        file = getattr(module, "__file__", None)
        if module is not None and file:
            if not self.holds(file):
                return None
            path = Path(file).absolute()
            return path.parent if path.name == "__init__.py" else path
        for folder in [*(Path(entry) for entry in sys.path if entry), *self.roots]:
            for path in (folder / f"{top}.py", folder / top):
                if self.holds(str(path)) and (path.is_file() or _is_package(path)):
                    return path
        return None


def is_installed(file: str) -> bool:
    """Whether a file belongs to Python itself or to an installed package."""
    path = Path(file).absolute()
    return bool(_INSTALLED.intersection(path.parts)) or path.is_relative_to(Path(os.__file__).parent)


@lru_cache(256)
def imports_airflow(file: str) -> bool:
    """Whether a file imports Airflow as soon as it is imported itself."""
    try:
        body = ast.parse(Path(file).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    return any(
        name.partition(".")[0] == "airflow"
        for statement in body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else [statement.module or ""]
        )
    )


def _is_package(folder: Path) -> bool:
    return folder.is_dir() and next(folder.rglob("*.py"), None) is not None


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(
        path
        for path in place.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(place).parts)
    )


def _imported(path: Path) -> Iterator[str]:
    """The top-level modules that a file imports, wherever in it."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
