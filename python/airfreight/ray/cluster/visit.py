"""
A parcel's stay in a worker process that outlives it.

The next call in the same process may bring another version of the same DAG file. So everything that a parcel brings is
taken out again: its modules, its folders on the path, its variables. What a function does to libraries, such as a
global setting, stays; who needs a process of his own asks for ``isolation="process"``.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import logging
import os
import sys
import zipfile
from types import ModuleType
from typing import TYPE_CHECKING, Any, Iterator

if TYPE_CHECKING or not __package__.startswith("airfreight_"):
    from airfreight.ray import driver, report
else:
    import airfreight_driver as driver
    import airfreight_report as report

from . import classes, place


class Archives:
    """
    A parcel in memory: the packages as they were sent.

    :param name: the parcel's.
    :param packages: zip archives.
    """

    def __init__(self, name: str, packages: list[Any]) -> None:
        self.name = name
        self._archives = [zipfile.ZipFile(io.BytesIO(package)) for package in packages]
        self._of = {entry: archive for archive in self._archives for entry in archive.namelist()}

    def read(self, name: str) -> bytes:
        path = f"{self.name}/{name}"
        if path not in self._of:
            raise report.Refused(f"the package of the call lacks {path}", "clear the task to send it again")
        return self._of[path].read(path)

    def data(self, names: list[str], length: int) -> memoryview:
        """The bytes of all values, which may be changed."""
        whole = memoryview(bytearray(length))
        start = 0
        for name in names:
            part = self.read(name)
            whole[start : start + len(part)] = part
            start += len(part)
        return whole

    def neighbours(self, modules: Any) -> list[str]:
        """The files that aren't the parcel's own: modules that lay beside the DAG file."""
        stand_ins = {f"{module.replace('.', '/')}.py" for module in modules}
        own = self.name + "/"
        return [entry for entry in self._of if not entry.startswith(own) and entry not in stand_ins]

    def extract(self, entries: list[str], folder: str) -> None:
        for entry in entries:
            self._of[entry].extract(entry, folder)


@contextlib.contextmanager
def visit(archives: Archives) -> Iterator[driver.Parcel]:
    """Opens a parcel for one call, and takes out afterwards what it has brought."""
    parcel = driver.Parcel(archives)
    modules = parcel.manifest["modules"]
    neighbours = archives.neighbours(modules)
    folder = _unpacked(archives, neighbours) if neighbours else None
    before = _Before(modules)
    try:
        for name in modules:
            # A fresh one, also in place of the worker's own __main__ or of a module that is installed there.
            sys.modules[name] = ModuleType(name)
            _pickle_by_value(name, on=True)
        driver.register(parcel)
        if folder is not None:
            sys.path.insert(0, folder)
        yield parcel
    finally:
        driver.forget(parcel)
        for name in modules:
            _pickle_by_value(name, on=False)
        before.restore(folder)
        for module in modules.values():
            linecache.cache.pop(module["file"], None)


class _Before:
    """What a process was like before a call."""

    def __init__(self, modules: Any) -> None:
        self._modules = {name: sys.modules.get(name) for name in modules}
        self._environment = dict(os.environ)
        self._path = list(sys.path)
        self._folder = os.getcwd()
        root = logging.getLogger()
        self._logging = (list(root.handlers), root.level)

    def restore(self, folder: str | None) -> None:
        for name, module in self._modules.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        classes.forget()
        if folder is not None:
            for name, module in list(sys.modules.items()):
                if (getattr(module, "__file__", None) or "").startswith(folder + os.sep):
                    _pickle_by_value(name, on=False)
                    del sys.modules[name]
            sys.path_importer_cache.pop(folder, None)
        sys.path[:] = self._path
        now = dict(os.environ)
        for name in now.keys() - self._environment.keys():
            del os.environ[name]
        for name, value in self._environment.items():
            if now.get(name) != value:
                os.environ[name] = value
        with contextlib.suppress(OSError):
            os.chdir(self._folder)
        root = logging.getLogger()
        root.handlers[:], root.level = self._logging


def _unpacked(archives: Archives, neighbours: list[str]) -> str:
    """Puts modules that lay beside the DAG file where Python finds them, once on each node."""
    folder = os.path.join(place.scratch("neighbours"), archives.name)
    if not os.path.isdir(folder):
        draft = f"{folder}.{os.getpid()}"
        archives.extract(neighbours, draft)
        try:
            os.rename(draft, folder)
        except OSError:
            # Another worker was faster.
            import shutil

            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _pickle_by_value(name: str, on: bool) -> None:
    """Lets what a function sends to Ray's workers on its own take the definitions along, which no file there has."""
    from ray import cloudpickle

    change = getattr(cloudpickle, "register_pickle_by_value" if on else "unregister_pickle_by_value", None)
    if change is not None and name in sys.modules:
        with contextlib.suppress(ValueError):
            change(sys.modules[name])
