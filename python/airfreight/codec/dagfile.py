"""
Classes and functions that a DAG file defines, found again by another task.

Airflow imports a DAG file under a name of its own (``unusual_prefix_<hash of its path>_<stem>``), which no other
process can import. So the stream of a value that mentions such a module ends with a note of the file, relative to its
bundle. Pickle stops reading before it; it is looked at only when a module is missing.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from airfreight.errors import InvalidError

_PREFIX = "unusual_prefix_"
_MENTION = re.compile(rb"unusual_prefix_[0-9a-f]{8,64}_\w+")
_MARK = b"\nAFDAGFILE1"

# The pickler's frames are about 64 KiB; what is longer is one string or one buffer, and names no module.
_FRAME_BYTES_MAX = 256 * 1024

_known: tuple[int, bool] = (-1, False)


def any_loaded() -> bool:
    """Whether this process has imported a DAG file, which it can't have without ``sys.modules`` growing."""
    global _known
    size = len(sys.modules)
    if _known[0] != size:
        _known = (size, any(name.startswith(_PREFIX) for name in list(sys.modules)))
    return _known[1]


class Watch:
    """Passes a stream on and notes which DAG files it mentions."""

    def __init__(self, sink: Any) -> None:
        self._write = sink.write
        self._mentioned: set[bytes] = set()

    def write(self, data: Any, /) -> int:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if size <= _FRAME_BYTES_MAX:
            data = bytes(data)
            if b"unusual_prefix_" in data:
                self._mentioned.update(_MENTION.findall(data))
        return self._write(data)  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Writes the note behind the pickle, if there is anything to note."""
        files = {}
        for name in sorted(mention.decode() for mention in self._mentioned):
            path = getattr(sys.modules.get(name), "__file__", None)
            if path:
                files[name] = _describe(path)
        if files:
            note = json.dumps(files).encode()
            self._write(note + len(note).to_bytes(4, "little") + _MARK)


def _describe(path: str) -> dict[str, str | None]:
    bundle = _running_bundle()
    root = os.fspath(bundle.path) if bundle is not None else None
    if root is None or not _inside(path, root):
        root = max((entry for entry in sys.path if entry and _inside(path, entry)), key=len, default=None)
    return {
        "file": os.path.relpath(path, root) if root else os.path.basename(path),
        "bundle": getattr(bundle, "name", None),
        "path": path,
    }


def _inside(path: str, folder: str) -> bool:
    return os.path.abspath(path).startswith(os.path.join(os.path.abspath(folder), ""))


def _running_bundle() -> Any:
    """The bundle of the task that runs in this process, if one does."""
    if "airflow.sdk" not in sys.modules:
        return None
    from airflow.sdk import get_current_context

    try:
        return getattr(get_current_context().get("ti"), "bundle_instance", None)
    except Exception:
        # No task runs here: a test, a script, the triggerer.
        return None


def read_note(stream: memoryview) -> dict[str, dict[str, str | None]]:
    """What :meth:`Watch.finish` wrote at the end of a stream, if it did."""
    start = end_of_value(stream)
    if not 0 <= start < len(stream):
        return {}
    return json.loads(bytes(stream[start : -len(_MARK) - 4]))  # type: ignore[no-any-return]


def end_of_value(stream: memoryview) -> int:
    """Where a value's own stream ends, before the note if there is one."""
    if bytes(stream[-len(_MARK) :]) != _MARK:
        return len(stream)
    end = len(stream) - len(_MARK) - 4
    return end - int.from_bytes(stream[end : end + 4], "little")


def import_noted(stream: memoryview, missing: str | None) -> bool:
    """
    Imports the DAG files that a stream mentions, under the names that it uses.

    :param missing: the module that wasn't found.
    :returns: whether there is reason to read the stream again.
    :raises InvalidError: the file isn't on this host.
    """
    note = read_note(stream)
    if missing not in note:
        return False
    for name, described in note.items():
        if name not in sys.modules:
            _import(name, described)
    return True


def _import(name: str, described: dict[str, str | None]) -> None:
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    looked_at = []
    for path in dict.fromkeys(_candidates(described)):
        looked_at.append(path)
        if not os.path.isfile(path):
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
        yield os.path.join(root, relative)
    if described["path"]:
        yield described["path"]


def _other_bundle(name: str | None) -> Iterator[str]:
    """Where the named bundle is on this host, when it isn't the one that the running task came from."""
    if name is None or "airflow.sdk" not in sys.modules:
        return
    try:
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        yield os.fspath(DagBundlesManager().get_bundle(name).path)
    except Exception:
        # Not configured here; the places that remain are tried, and the error names them.
        return
