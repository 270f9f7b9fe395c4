"""What is sent to the cluster for one call: the driver, which is always the same, and the call itself."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airfreight.ray.function import Function

#: Ray refuses a package of 100 MiB.
PART_BYTES_MAX = 95 * 1024 * 1024
#: The cluster's head holds every package in memory.
BYTES_MAX = 512 * 1024 * 1024

_PACKAGE = Path(__file__).parents[1]

# What the driver may need of Airfreight, if a value isn't plain: the codec without what writes to the store.
_SHELF = (
    "errors.py",
    "codec/dagfile.py",
    "codec/elementwise.py",
    "codec/memory.py",
    "codec/note.py",
    "codec/plain/__init__.py",
    "codec/plain/arrays.py",
    "codec/plain/arrow.py",
    "codec/plain/frames.py",
    "codec/plain/reader.py",
    "codec/plain/writer.py",
    "codec/pickler.py",
    "codec/preview.py",
    "codec/refusal.py",
    "codec/sharing.py",
    "codec/sink.py",
    "codec/stream.py",
)

# A module of which pieces were sent, for the processes that Ray starts on behalf of the job.
_STAND_IN = "import airfreight_driver\n\nairfreight_driver.fill(__name__, {parcel!r})\n"

# What the runner's job imports.
_RUNNER = 'from airfreight_cluster.runner import hold\n\n__all__ = ["hold"]\n'

# A zip can't hold a time before 1980, and the same content must be the same package.
_TIME = (1980, 1, 1, 0, 0, 0)


class Parcel:
    """
    One call, packed.

    :param function: the function with its arguments among its values.
    :param arguments: where they are, as :meth:`Function.argument` told.
    :param environment: environment variables of the function.
    :param libraries: the versions that this process has of the libraries whose objects travel.
    :param inputs: what the values that are in the cluster already are called there; the arguments refer to their
        places here.
    :param plane: whose a result is to be that stays in the cluster; ``None`` if it is to come back.
    :raises InvalidError: it is larger than what a cluster's head should hold.
    """

    def __init__(
        self,
        function: Function,
        arguments: dict[str, Any],
        *,
        environment: Mapping[str, str],
        libraries: Mapping[str, str | None],
        inputs: Sequence[Mapping[str, Any]] = (),
        plane: Mapping[str, Any] | None = None,
    ) -> None:
        values = function.values
        if values.nbytes > BYTES_MAX:
            raise InvalidError(
                f"the arguments of {function.name} take {values.nbytes >> 20} MiB, and at most {BYTES_MAX >> 20} MiB "
                "are sent to a cluster with a function",
                "write them to a bucket or a shared file system and pass the path",
            )
        self._function = function
        self._parts = list(_split(values.parts, PART_BYTES_MAX))
        manifest: dict[str, Any] = {
            "v": 1,
            "worker": {"python": ".".join(map(str, sys.version_info[:3]))},
            "environment": dict(environment),
            "libraries": dict(libraries),
            "requires": sorted(function.requires),
            "allow_pickle": function.values.allow_pickle,
            "same_python": function.same_python,
            "logging": any("logging" in piece.text for _, piece in function.pieces),
            "modules": {
                name: {
                    "file": module.source.file,
                    "package": module.package,
                    "entries": sorted(module.entries, key=lambda entry: int(entry["line"])),
                }
                for name, module in function.modules.items()
            },
            "scopes": [scope.manifest() for scope in function.scopes],
            "module": function.raw.__module__,
            "function": function.reference,
            "arguments": arguments,
            "data": {"bytes": values.nbytes, "parts": [f"data.{index}" for index in range(len(self._parts))]},
        }
        if inputs:
            manifest["inputs"] = [dict(each) for each in inputs]
        if plane is not None:
            manifest["plane"] = dict(plane)
        self._manifest = json.dumps(manifest)
        #: The folder's name on the cluster: what is in it, in brief.
        self.name = f"airfreight_parcel_{self._hash()}"

    @property
    def entrypoint(self) -> str:
        """The arguments of Python that run the call; nothing of the call's content is in them."""
        return f"-c 'import airfreight_driver; airfreight_driver.main(\"{self.name}\")'"

    def packages(self) -> Iterable[bytes]:
        """The packages for ``py_modules``, as zip archives: the call, and the rest of its values if it is large."""
        first: dict[str, Any] = {f"{self.name}/manifest.json": self._manifest.encode()}
        for name in self._function.modules:
            if name != "__main__":
                first[f"{name.replace('.', '/')}.py"] = _STAND_IN.format(parcel=self.name).encode()
        for place, path in self._function.neighbours.files.items():
            first.setdefault(place, path.read_bytes())
        for index, part in enumerate(self._parts or [[]]):
            files = first if index == 0 else {}
            if part:
                files[f"{self.name}/data.{index}"] = part
            yield _zip(files)

    def _hash(self) -> str:
        found = hashlib.sha256(self._manifest.encode())
        for part in self._parts:
            for piece in part:
                found.update(piece)
        for place, path in sorted(self._function.neighbours.files.items()):
            found.update(place.encode() + b"\0" + path.read_bytes())
        return found.hexdigest()[:16]


@lru_cache(1)
def driver_package() -> bytes:
    """The package that is the same for every call, so that a cluster has it from the first one on."""
    files = {
        "airfreight_driver.py": (_PACKAGE / "ray" / "driver.py").read_bytes(),
        "airfreight_report.py": (_PACKAGE / "ray" / "report.py").read_bytes(),
        "airfreight_runner.py": _RUNNER.encode(),
        "airfreight_shelf/airfreight/_store.py": (_PACKAGE / "ray" / "texts.py").read_bytes(),
    }
    for path in sorted((_PACKAGE / "ray" / "cluster").glob("*.py")):
        files[f"airfreight_cluster/{path.name}"] = path.read_bytes()
    shelf = [*_SHELF, *(f"codec/reducers/{path.name}" for path in sorted((_PACKAGE / "codec/reducers").glob("*.py")))]
    for name in shelf:
        files[f"airfreight_shelf/airfreight/{name}"] = (_PACKAGE / name).read_bytes()
    return _zip(files)


def _split(pieces: list[Any], size: int) -> Iterable[list[memoryview]]:
    """Cuts bytes into parts of a size."""
    part: list[memoryview] = []
    room = size
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while len(view):
            part.append(view[:room])
            taken = len(part[-1])
            view = view[taken:]
            room -= taken
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part


def _zip(files: Mapping[str, Any]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr = 0o644 << 16
            if isinstance(content, list):
                # Numbers hardly shrink, and whoever waits for them waits longer.
                info.compress_type = zipfile.ZIP_STORED
                with archive.open(info, "w") as member:
                    for piece in content:
                        member.write(piece)
            else:
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, content)
    return target.getvalue()
