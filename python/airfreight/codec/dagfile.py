"""
Classes and functions that a DAG file defines, found again by another task.

Airflow imports a DAG file under a name of its own (``unusual_prefix_<hash of its path>_<stem>``), which no other
process can import. So the stream of a value that mentions such a module ends with a note of where the file is, relative
to its bundle. It is looked at only when a module is missing.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "unusual_prefix_"
# Compiled, and kept, by who first needs it: a task that has imported no DAG file never does.
_MENTION = rb"unusual_prefix_[0-9a-f]{8,64}_\w+"


class _Loaded:
    """Whether this process has imported a DAG file: found out anew when it has imported anything."""

    modules = -1
    any = False


def any_loaded() -> bool:
    """Whether this process has imported a DAG file, which it can't have without ``sys.modules`` growing."""
    modules = len(sys.modules)
    if _Loaded.modules != modules:
        _Loaded.any = any(name.startswith(_PREFIX) for name in list(sys.modules))
        _Loaded.modules = modules
    return _Loaded.any


def mentioned(frame: bytes, into: set[bytes]) -> None:
    """Adds the DAG files that a frame of a stream mentions; no frame ends within a name."""
    if b"unusual_prefix_" in frame:
        into.update(re.findall(_MENTION, frame))


def describe_all(names: set[bytes]) -> dict[str, dict[str, str | None]]:
    """Where the DAG files are, by module name."""
    described = {}
    for name in sorted(mention.decode() for mention in names):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path:
            described[name] = _describe(path)
    return described


def _describe(path: str) -> dict[str, str | None]:
    bundle = _running_bundle()
    root = os.fspath(bundle.path) if bundle is not None else None
    if root is None or not _inside(path, root):
        root = max((entry for entry in sys.path if entry and _inside(path, entry)), key=len, default=None)
    return {
        "file": os.path.relpath(path, root) if root else Path(path).name,
        "bundle": getattr(bundle, "name", None),
        "path": path,
    }


def _inside(path: str, folder: str) -> bool:
    return Path(path).absolute().is_relative_to(Path(folder).absolute())


def _running_bundle() -> Any:
    """The bundle of the task that runs in this process, if one does."""
    if "airflow.sdk" not in sys.modules:
        return None
    from airflow.sdk import get_current_context

    try:
        return getattr(get_current_context().get("ti"), "bundle_instance", None)
    except Exception:  # noqa: BLE001
        # No task runs here: a test, a script, the triggerer.
        return None


def import_noted(described: dict[str, dict[str, str | None]], missing: str | None) -> bool:
    """
    Imports the DAG files that a value needs, under the names that its stream uses.

    :param described: where they are, by module name.
    :param missing: the module that wasn't found.
    :returns: whether there is reason to read the stream again.
    :raises InvalidError: the file isn't on this host.
    """
    if missing not in described:
        return False
    for name, where in described.items():
        if name not in sys.modules:
            _import(name, where)
    return True


def _import(name: str, described: dict[str, str | None]) -> None:
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    looked_at = []
    for path in dict.fromkeys(_candidates(described)):
        looked_at.append(path)
        if not Path(path).is_file():
            continue
        loader = SourceFileLoader(name, path)
        spec = spec_from_loader(name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, Exception):
                raise
            raise InvalidError(
                f"cannot import {path}, which defines a class or function of this value",
                "mend the file, or move what values need into a module that both DAGs import",
            ) from error
        return
    raise InvalidError(
        f"the DAG file {described['file']} of bundle {described['bundle'] or '?'} defines a class or function of this "
        f"value and is not on this host; looked at {', '.join(looked_at) or 'nothing'}",
        "make the file's bundle available to this worker, or move the definition into a module that both DAGs import",
    )


def _candidates(described: dict[str, str | None]) -> Iterator[str]:
    relative = described["file"] or ""
    running = _running_bundle()
    roots = []
    if running is not None and described["bundle"] in (None, running.name):
        roots.append(os.fspath(running.path))
    roots.extend(_other_bundle(described["bundle"]))
    roots.extend(entry for entry in sys.path if entry)
    for root in roots:
        yield os.fspath(Path(root, relative))
    if described["path"]:
        yield described["path"]


def _other_bundle(name: str | None) -> Iterator[str]:
    """Where the named bundle is on this host, when it isn't the one that the running task came from."""
    if name is None or "airflow.sdk" not in sys.modules:
        return
    try:
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        bundles: Any = DagBundlesManager
        yield os.fspath(bundles().get_bundle(name).path)
    except Exception:  # noqa: BLE001
        # Not configured here; the places that remain are tried, and the error names them.
        return
