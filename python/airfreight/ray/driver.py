"""
What runs on the Ray cluster: rebuilds a function and its arguments from a parcel, calls it and says how it went.

This file is shipped as the module ``airfreight_driver``. The cluster has its own Python (3.8 and later) and needs
nothing of Airfreight's, so there is nothing here but the standard library, loaded as late as possible: a job's start
is what a short task waits for. Nothing imports Ray unless the function does.

The same code serves a job, which is one call (:func:`main`), and a worker of the runner, which makes one call after
the other (``airfreight_cluster.execution``). What a job tells the task goes into its log, as lines that are not for
people: a mark, the job's nonce, JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __name__ != "airfreight_driver":
    from airfreight.ray import report
else:
    import airfreight_report as report

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.ray.cluster.cold import Plane

    Record = dict[str, Any]

_HERE = os.path.abspath(__file__)
_parcels: dict[str, Parcel] = {}


class Folder:
    """
    Where a job has its parcel: a folder somewhere on Python's path.

    :param name: the folder's.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, name: str) -> bytes:
        with open(_find(self.name + "/" + name), "rb") as file:
            return file.read()

    def data(self, names: list[str], length: int) -> memoryview:
        """The bytes of all values, which may be changed without changing any file."""
        parts = [_find(self.name + "/" + name) for name in names]
        if len(parts) == 1 and length:
            import mmap

            with open(parts[0], "rb") as file:
                # Private and writable: values behave as ordinary ones.
                return memoryview(mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY))
        whole = memoryview(bytearray(length))
        start = 0
        for part in parts:
            with open(part, "rb") as file:
                start += file.readinto(whole[start:])
        return whole


class Parcel:
    """
    What a task has sent: the manifest, and the bytes of all pickled values.

    :param source: where it lies, such as a :class:`Folder`.
    """

    def __init__(self, source: Any) -> None:
        self.name: str = source.name
        self.manifest: Record = json.loads(source.read("manifest.json"))
        #: Gives the values that were in the cluster already, by their place among the call's inputs.
        self.input: Callable[[int], Any] | None = None
        self._source = source
        self._data: memoryview | None = None
        self._scopes: dict[int, Record] = {}
        #: The modules that have been made of their pieces.
        self.filled: set[str] = set()
        _lend_shelf()

    def value(self, payload: Record) -> Any:
        """Unpickles one of the values."""
        view = self._open()
        start, length = payload["stream"]
        stream = view[start : start + length]
        buffers = [view[start : start + length] for start, length in payload["buffers"]]
        if payload["form"] == "plain":
            from airfreight.codec import plain

            return plain.decode(stream, buffers)
        if payload["form"] == "codec":
            from airfreight.codec.stream import load

            return load(stream, buffers) if self.input is None else load(stream, buffers, self._found)
        import pickle

        if self.input is None:
            return pickle.loads(stream, buffers=buffers)
        import io

        unpickler: Any = type("Unpickler", (pickle.Unpickler,), {"persistent_load": staticmethod(self._found)})
        return unpickler(io.BytesIO(stream), buffers=buffers).load()

    def _found(self, reference: Any) -> Any:
        """What a pickle refers to from outside: ``("airfreight", number)`` is one of the call's inputs."""
        kind, number = reference
        if kind != "airfreight" or self.input is None:
            raise report.Refused(
                f"the function's arguments refer to {kind!r}, which this version of the driver doesn't know"
            )
        return self.input(number)

    def resolve(self, reference: Record) -> Any:
        """The function, class, module or value that the manifest speaks of."""
        if "value" in reference:
            return self.value(reference["value"])
        if "module" in reference:
            return getattr(_import(reference["module"]), reference["name"])
        if "pickled" in reference:
            return _load_code(self.value(reference["pickled"]))
        if "scope" in reference:
            return self._scope(reference["scope"])[reference["name"]]
        found: Any = _import(reference["import"])
        for name in reference.get("path", "").split("."):
            found = getattr(found, name) if name else found
        return found

    def fill(self, name: str, namespace: Record) -> None:
        """Makes a module of the pieces of it that the function needs."""
        module = self.manifest["modules"][name]
        namespace["__file__"] = module["file"]
        namespace["__package__"] = module["package"]
        for entry in module["entries"]:
            if "source" in entry:
                file = entry.get("file", module["file"])
                _show_source(file, entry)
                exec(_compile(entry, file), namespace)
                _set_defaults(self, namespace.get(entry.get("name")), entry)
            elif "import" in entry:
                _bind_import(self, entry, namespace)
            else:
                namespace[entry["bind"]] = self.resolve(entry["to"])

    def _scope(self, number: int) -> Record:
        """The functions and classes that were defined inside one call of another function."""
        if number not in self._scopes:
            scope = self.manifest["scopes"][number]
            namespace = _import(scope["module"]).__dict__
            file = scope["file"]
            _show_source(file, scope)
            exec(_compile(scope, file), namespace)
            make = namespace.pop(scope["name"])
            made = make(**{name: self.resolve(to) for name, to in scope["parameters"].items()})
            for name, how in scope["made"].items():
                _set_defaults(self, made[name], how)
                _rename(made[name], how["qualname"])
            self._scopes[number] = made
        return self._scopes[number]

    def _open(self) -> memoryview:
        if self._data is None:
            data = self.manifest["data"]
            self._data = self._source.data(data["parts"], data["bytes"])
        return self._data


def main(name: str) -> None:
    """Runs the parcel of that name, reports and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        # Ray asks for no buffering at all, which tears lines apart that several processes print.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")
    report.channel = os.dup(1)
    _faults()
    joined_ray = True
    try:
        parcel = _parcel(name)
        plane = _plane(parcel)
        if plane is None:
            record = run(parcel, _keep)
        else:
            parcel.input = plane.input if "inputs" in parcel.manifest else None
            record = run(parcel, plane.keep)
            joined_ray = not plane.came_late
    except report.Refused as error:
        record = report.refusal(error)
    _run_exit_functions(joined_ray)
    failed = "result" not in record
    report.say(record)
    # At home a task ends like this, too; and an interpreter's orderly end takes up to a second with Ray loaded.
    os._exit(1 if failed else 0)


def fill(module: str, parcel: str) -> None:
    """What the file of a shipped DAG module does when a process of the job imports it."""
    shipped = _parcel(parcel)
    shipped.filled.add(module)
    shipped.fill(module, sys.modules[module].__dict__)


def run(parcel: Parcel, keep: Callable[[Any, Parcel], Record]) -> Record:
    """
    Calls the function of a parcel.

    :param keep: takes the value, puts it where it is to be, and says what the task is told of it.
    :returns: what the task is told: of the result, of the exception, or why the function wasn't called.
    """
    manifest = parcel.manifest
    try:
        try:
            _prepare(manifest)
            for module in manifest["modules"]:
                _import(module)
            function = parcel.resolve(manifest["function"])
            args, kwargs = _arguments(parcel)
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        except SyntaxError as error:
            raise _unreadable(error, manifest["worker"]["python"]) from error
        result = function(*args, **kwargs)
        if hasattr(result, "__await__"):
            import asyncio

            result = asyncio.run(_awaited(result))
        return {"module": manifest["module"], **keep(result, parcel)}
    except report.Refused as error:
        return report.refusal(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the task is to know
        return {"v": 1, "error": report.describe(error), "module": manifest["module"]}


def _keep(value: Any, parcel: Parcel) -> Record:
    return report.result(value, parcel.manifest["allow_pickle"])


def _plane(parcel: Parcel) -> Plane | None:
    """The values of the cluster, if the job has to do with any."""
    if not ("inputs" in parcel.manifest or "plane" in parcel.manifest):
        return None
    if TYPE_CHECKING or __name__ != "airfreight_driver":
        from airfreight.ray.cluster.cold import Plane
    else:
        from airfreight_cluster.cold import Plane
    return Plane(parcel.manifest)


def _prepare(manifest: Record) -> None:
    os.environ.update(manifest["environment"])
    if manifest["logging"]:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(levelname)s - %(message)s", stream=sys.stdout)
    _check(manifest)


async def _awaited(result: Any) -> Any:
    return await result


def _arguments(parcel: Parcel) -> tuple[Any, Any]:
    try:
        arguments = parcel.value(parcel.manifest["arguments"])
    except (ModuleNotFoundError, report.Refused):
        raise
    except Exception as error:
        manifest = parcel.manifest
        here = {library: report.version(library) for library in manifest["libraries"]}
        raise report.Refused(
            f"cannot rebuild the function's arguments on the cluster: {type(error).__name__}: {error}",
            f"the worker has Python {manifest['worker']['python']}, {_list(manifest['libraries'])}; "
            f"the cluster has Python {report.python()}, {_list(here)}",
        ) from error
    return arguments["args"], arguments["kwargs"]


# Before the function is called


def _check(manifest: Record) -> None:
    """Compares the libraries of both sides."""
    from importlib.util import find_spec

    for library in [*manifest["libraries"], *manifest["requires"]]:
        try:
            found = library in sys.modules or find_spec(library) is not None
        except (ImportError, ValueError):
            found = True  # odd, but there; importing it will tell
        if not found:
            raise _lacking(library, manifest["libraries"].get(library))
    for library, theirs in manifest["libraries"].items():
        # Importing it tells in any case, and will be done in any case.
        ours = report.version(library) or str(getattr(_import(library), "__version__", ""))
        if theirs and ours and report.generation(library, theirs) != report.generation(library, ours):
            raise report.Refused(
                f"the function's arguments hold objects of {library} {theirs}, and the cluster has {library} {ours}",
                f'install the same version on both sides, or for this task: runtime_env={{"pip": '
                f'["{library}=={theirs}"]}}; or pass plain data',
            )
    if manifest["same_python"] and manifest["worker"]["python"].split(".")[:2] != report.python().split(".")[:2]:
        raise report.Refused(
            f"the function travels as byte code of Python {manifest['worker']['python']}, and the cluster has Python "
            f"{report.python()}",
            "its source can't be had where the task runs: define it in a file, or use the same Python on both sides",
        )


def _lacking(library: str, version: str | None) -> report.Refused:
    worker = f" (the worker has {version})" if version else ""
    if library == "airflow":
        return report.Refused(
            f"the function needs the module airflow, and the cluster's Python {report.python()} doesn't have it",
            "pass what it needs of Airflow as arguments, such as {{ ds }}, {{ params.x }} or {{ var.value.x }}",
        )
    return report.Refused(
        f"the function needs the module {library}{worker}, and the cluster's Python {report.python()} doesn't have it",
        f'install it on the cluster, or for this task: runtime_env={{"pip": ["{library}'
        f'{"==" + version if version else ""}"]}}',
    )


def _unreadable(error: SyntaxError, worker_python: str) -> report.Refused:
    return report.Refused(
        f"the cluster's Python {report.python()} can't read line {error.lineno} of {error.filename}: {error.msg}",
        f"write it as that Python understands it; the worker has Python {worker_python}",
    )


def _missing(error: ModuleNotFoundError) -> report.Refused:
    return _lacking((error.name or str(error)).partition(".")[0], None)


def _list(versions: dict[str, str | None]) -> str:
    return ", ".join(f"{library} {version or '(none)'}" for library, version in versions.items()) or "no libraries"


# The function and what it needs


def _parcel(name: str) -> Parcel:
    if name not in _parcels:
        register(Parcel(Folder(name)))
    return _parcels[name]


def register(parcel: Parcel) -> None:
    """Lets imports find what a parcel has brought."""
    _parcels[parcel.name] = parcel


def forget(parcel: Parcel) -> None:
    """Ends what :func:`register` began."""
    _parcels.pop(parcel.name, None)


def _find(path: str) -> str:
    for folder in sys.path:
        if os.path.exists(os.path.join(folder, path)):
            return os.path.join(folder, path)
    raise report.Refused(
        f"the package with {path} isn't on the path of the job's Python",
        "Ray puts it there through PYTHONPATH: does the entrypoint or the environment replace that?",
    )


def _import(name: str) -> Any:
    """A module; if pieces of it were sent, it is made of these."""
    for parcel in _parcels.values():
        if name in parcel.manifest["modules"] and name not in parcel.filled:
            parcel.filled.add(name)
            if name not in sys.modules:
                from types import ModuleType

                sys.modules[name] = ModuleType(name)
            parcel.fill(name, sys.modules[name].__dict__)
    from importlib import import_module

    return import_module(name)


def _load_code(pickled: bytes) -> Any:
    """A function as cloudpickle has packed it; Ray has a copy of that library."""
    try:
        import cloudpickle  # noqa: F401
    except ImportError:
        from importlib import import_module

        for module in ("cloudpickle", "cloudpickle.cloudpickle"):
            sys.modules[module] = import_module("ray." + module)
    import pickle

    return pickle.loads(pickled)


def _compile(entry: Record, file: str) -> Any:
    flags = 0
    if entry["lazy_annotations"]:
        import __future__

        flags = __future__.annotations.compiler_flag
    return compile("\n" * (entry["line"] - 1) + entry["source"], file, "exec", flags=flags, dont_inherit=True)


def _show_source(file: str, piece: Record) -> None:
    """Lets tracebacks show the lines, which are in no file here."""
    import linecache

    known: Any = linecache.cache.get(file, ())
    lines = list(known[2]) if len(known) == 4 else []
    # Not at form feeds and the like, which are within lines.
    text = [line + "\n" for line in piece["source"].rstrip("\n").split("\n")]
    start = piece["line"] - 1
    lines.extend(["\n"] * (start + len(text) - len(lines)))
    hidden = piece.get("hidden", ())
    for index, line in enumerate(text):
        # A scope's lines lie between those of others.
        if index not in hidden and (line.strip() or not lines[start + index].strip()):
            lines[start + index] = line
    # Without a time, nobody compares it with a file.
    linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


def _set_defaults(parcel: Parcel, function: Any, entry: Record) -> None:
    """A default is what it was when the task's worker defined the function, not what it would be here."""
    if entry.get("defaults"):
        function.__defaults__ = parcel.value(entry["defaults"])
    if entry.get("keyword_defaults"):
        function.__kwdefaults__ = parcel.value(entry["keyword_defaults"])


def _rename(made: Any, qualname: str) -> None:
    try:
        made.__qualname__ = qualname
    except (AttributeError, TypeError):
        pass


def _bind_import(parcel: Parcel, entry: Record, namespace: Record) -> None:
    try:
        if "name" in entry:
            bound = getattr(__import__(entry["import"], fromlist=[entry["name"]]), entry["name"])
        elif entry["as"] is None:
            bound = __import__(entry["import"])
        else:
            bound = _import(entry["import"])
    except (ImportError, AttributeError) as error:
        if entry.get("stand_in"):
            # Raised here, and raised as what it is called by the task that waits.
            bound = type(entry["name"], (Exception,), {"__module__": entry["import"]})
        elif "fallback" in entry:
            bound = parcel.value(entry["fallback"])
        elif entry.get("optional"):
            return
        elif isinstance(error, AttributeError):
            raise ImportError(f"cannot import name {entry['name']!r} from {entry['import']!r}") from error
        else:
            raise
    namespace[entry["as"] or entry["import"].partition(".")[0]] = bound


def _lend_shelf() -> None:
    """
    Lets this process import the parts of Airfreight that came along, whether or not there is more of it.

    They are read when something needs them: most functions take and return plain values.
    """
    if "airfreight" in sys.modules:
        return
    shelf = os.path.join(os.path.dirname(_HERE), "airfreight_shelf", "airfreight")
    from importlib.util import find_spec
    from types import ModuleType

    spec = find_spec("airfreight")
    for name, folder in (("airfreight", shelf), ("airfreight.codec", os.path.join(shelf, "codec"))):
        module = ModuleType(name)
        module.__path__ = [folder]
        if spec is not None and name == "airfreight":
            module.__path__ += list(spec.submodule_search_locations or ())
        sys.modules[name] = module
    sys.modules["airfreight"].codec = sys.modules["airfreight.codec"]  # type: ignore[attr-defined]


# The process


def _faults() -> None:
    try:
        import faulthandler

        faulthandler.enable()
    except (ImportError, OSError, RuntimeError, ValueError):
        pass


def _run_exit_functions(joined_ray: bool) -> None:
    """
    What the function's libraries have registered to be done at the end, such as sending what they gathered.

    :param joined_ray: whether the function may have used Ray.
    """
    import atexit

    ray = sys.modules.get("ray")
    try:
        if ray is not None and ray.is_initialized():
            import time

            # Its own exit function would disconnect, too, which takes longer and does nothing for a process that ends.
            atexit.unregister(ray._private.worker.shutdown)
            # What remote functions print arrives on its own time; Ray waits as long.
            time.sleep(0.5 if joined_ray else 0)
    except Exception:  # noqa: BLE001 - another Ray, with another inside
        pass
    try:
        atexit._run_exitfuncs()
    except BaseException as error:  # noqa: BLE001
        print(f"airfreight: an exit function failed: {type(error).__name__}: {error}", file=sys.stderr)
