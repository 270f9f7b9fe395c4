"""
How the driver tells the task what became of a function: in the job's log, and for large results in a file beside it.

This file is shipped as the module ``airfreight_report``, with the driver, and is read by Python 3.8 and later. The
lines that it writes are not for people: a mark, the job's nonce, JSON. Before the last one the traceback stands in the
same way, for who reads the log in Ray's dashboard.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Dict

if TYPE_CHECKING:
    from collections.abc import Callable

    Record = dict[str, Any]

MARK = "\x1eairfreight "

#: What a result may take in the log itself; everything larger goes to a file beside it.
INLINE_BYTES_MAX = 16 * 1024
RESULT_BYTES_MAX = 256 * 1024 * 1024
RESULT_FILE_PREFIX = "airfreight-result-"
#: Ray never cleans its log directory: whoever writes a result there removes those that must have been read by now.
_RESULT_FILE_SECONDS = 24 * 3600
#: A multiple of three, so that the lines of a file can be decoded one by one.
CHUNK_BYTES = 192 * 1024
_LOG_CHUNK_BYTES = 12 * 1024

#: Where a buffer may begin, so that arrays over it are aligned.
_ALIGNMENT = 64

# Each of their releases is a major one, and reads what the others wrote; so with versions that are years.
_STEADY = ("pyarrow",)

_FRAMES_MAX = 120
_TEXT_LENGTH_MAX = 16 * 1024
_CHAIN_MAX = 10
_GROUP_MAX = 16

#: Where the job's log is: the driver's own descriptor, since a function may do with its standard output what it likes.
channel = 1

# Files and folders whose frames are nobody's business.
_OWN = ("airfreight_driver.py", "airfreight_report.py")
_OWN_FOLDERS = ("airfreight_shelf", "airfreight_cluster")


class Refused(Exception):
    """The function isn't called, and the task is told why."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# The result


def result(value: Any, allow_pickle: bool) -> Record:
    """What is reported of a function's result."""
    if is_plain(value):
        return {"v": 1, "result": {"json": value}, **versions(())}
    return packed(value, allow_pickle)


def refusal(error: Refused) -> Record:
    """What is reported of a function that isn't called."""
    return {"v": 1, "refused": {"message": error.message, "hint": error.hint}}


def is_plain(value: Any, bytes_max: int = INLINE_BYTES_MAX) -> bool:
    """Whether a value is JSON, the same after a round trip, and small."""
    left = [1000]
    seen = set()

    def plain(part: Any) -> bool:
        left[0] -= 1
        if left[0] < 0:
            return False
        cls = type(part)
        if cls is float:
            return not math.isnan(part)  # NaN has more than one form
        if cls in (str, int, bool, type(None)):
            return cls is not int or -(1 << 63) <= part < 1 << 64
        if cls not in (list, dict) or id(part) in seen:
            return False
        seen.add(id(part))
        if cls is list:
            return all(map(plain, part))
        return all(type(key) is str for key in part) and all(map(plain, part.values()))

    return plain(value) and len(json.dumps(value)) <= bytes_max


class Parts:
    """A value as the codec writes it: takes what a pickler writes."""

    def __init__(self) -> None:
        self.stream: list[Any] = []
        self.buffers: list[Any] = []
        #: The types that the pickler has met.
        self.types: list[type] = []

    @property
    def nbytes(self) -> int:
        return sum(map(len, self.stream)) + sum(map(len, self.buffers))

    def libraries(self) -> tuple[str, ...]:
        """The libraries whose types are among those."""
        return tuple(sorted({cls.__module__.partition(".")[0] for cls in self.types}))

    def write(self, data: Any) -> int:
        self.stream.append(bytes(data))
        return len(data)

    def add_buffer(self, buffer: Any) -> bool:
        try:
            raw = memoryview(buffer).cast("B") if not hasattr(buffer, "raw") else buffer.raw()
        except (BufferError, TypeError, ValueError):
            return True
        self.buffers.append(raw)
        return False


def packed(value: Any, allow_pickle: bool) -> Record:
    """Encodes a result and puts it where the task finds it."""
    parts = encode(value, allow_pickle)
    pieces, places, nbytes = _laid_out(parts)
    record: Record = {"places": places, "nbytes": nbytes}
    if nbytes > RESULT_BYTES_MAX:
        raise Refused(
            f"the result of {nbytes / (1 << 20):.0f} MiB is larger than what can come back from the cluster "
            f"({RESULT_BYTES_MAX >> 20} MiB)",
            "write it to a bucket or a shared file system and return its path",
        )
    record.update(_put(pieces, nbytes))
    return {"v": 1, "result": record, **versions(parts.libraries())}


def inline(parts: Parts, bytes_max: int) -> Record | None:
    """What is reported of a result that is short enough to stand in the report; ``None`` if it isn't."""
    if parts.nbytes > bytes_max * 3 // 4:
        return None
    pieces, places, nbytes = _laid_out(parts)
    if nbytes > bytes_max * 3 // 4:
        return None
    return {"places": places, "nbytes": nbytes, "inline": _base64(pieces)}


def encode(value: Any, allow_pickle: bool, refuse: Callable[[type], Any] | None = None) -> Parts:
    """
    Takes a value apart as the codec does.

    :param refuse: asked about each type once: gives a reducer that is used in place of the codec's, or ``None``.
    """
    parts = Parts()
    if allow_pickle:
        _dump(value, parts, refuse)
    else:
        from airfreight.codec import plain

        plain.encode(parts, value)
    return parts


def _laid_out(parts: Parts) -> tuple[list[Any], list[Any], int]:
    """Stream and buffers one after the other, each where an array may begin."""
    pieces: list[Any] = []
    places = []
    nbytes = 0
    for piece in (b"".join(parts.stream), *parts.buffers):
        gap = -nbytes % _ALIGNMENT
        pieces += [bytes(gap), piece] if gap else [piece]
        places.append([nbytes + gap, len(piece)])
        nbytes += gap + len(piece)
    return pieces, places, nbytes


class _Met(Dict[type, Any]):
    """A pickler's dispatch table that notes which types the pickler meets."""

    def __init__(self, table: Any, refuse: Callable[[type], Any] | None) -> None:
        super().__init__()
        self._table = table
        self._refuse = refuse

    def __missing__(self, cls: type) -> Any:
        reducer = self._refuse(cls) if self._refuse is not None else None
        self[cls] = self._table[cls] if reducer is None else reducer
        return self[cls]


def _dump(value: Any, parts: Parts, refuse: Callable[[type], Any] | None) -> None:
    try:
        from airfreight.codec.pickler import make_pickler
        from airfreight.codec.refusal import explain
        from airfreight.codec.sink import Sink
    except (ImportError, SyntaxError, TypeError):
        # A Python before the codec's; pickle's own way is right for nearly everything.
        import pickle

        pickle.Pickler(parts, 5, buffer_callback=parts.add_buffer).dump(value)
        return
    sink = Sink(parts)
    pickler = make_pickler(sink)
    met = _Met(pickler.dispatch_table, refuse)
    pickler.dispatch_table = met
    try:
        pickler.dump(value)
    except (MemoryError, Refused):
        raise
    except Exception as error:
        raise explain(value, error) from error
    sink.finish()
    parts.types = list(met)


def _base64(pieces: list[Any]) -> str:
    from binascii import b2a_base64

    return b2a_base64(b"".join(pieces), newline=False).decode()


def _put(pieces: list[Any], nbytes: int) -> Record:
    if nbytes <= INLINE_BYTES_MAX * 3 // 4:
        return {"inline": _base64(pieces)}
    path = _beside_the_log()
    if path is not None:
        try:
            with open(path, "xb") as file:
                count = write_chunks(pieces, CHUNK_BYTES, file.write)
            return {"file": os.path.basename(path), "chunks": count}
        except OSError as error:
            _remove(path)
            print(f"airfreight: the result goes through the log, because {error}", file=sys.stderr)
    nonce = _nonce().encode()
    sys.stdout.flush()
    count = write_chunks(pieces, _LOG_CHUNK_BYTES, lambda line: _emit(MARK.encode() + nonce + b" = " + line))
    return {"lines": count}


def write_chunks(pieces: list[Any], size: int, write: Callable[[bytes], Any]) -> int:
    """Writes bytes as lines of a checksum and base64; where a piece ends, its line goes on with the next."""
    from binascii import b2a_base64, crc32

    count = 0
    rest = b""
    for piece in pieces:
        view = memoryview(piece)
        position = 0
        while position < len(view):
            chunk = view[position : position + size - len(rest)]
            position += len(chunk)
            rest = rest + chunk.tobytes() if rest else chunk.tobytes()
            if len(rest) == size:
                write(b"%08x %s" % (crc32(rest), b2a_base64(rest)))
                count += 1
                rest = b""
    if rest:
        write(b"%08x %s" % (crc32(rest), b2a_base64(rest)))
        count += 1
    return count


def _beside_the_log() -> str | None:
    """A new file in the directory of the job's log, where the dashboard finds it; old results go."""
    try:
        log = os.readlink(f"/proc/self/fd/{channel}")
    except OSError:
        return None
    folder, name = os.path.split(log)
    if not (name.startswith("job-driver-") and name.endswith(".log")):
        return None
    import time

    try:
        for entry in os.scandir(folder):
            if entry.name.startswith(RESULT_FILE_PREFIX) and entry.stat().st_mtime < time.time() - _RESULT_FILE_SECONDS:
                _remove(entry.path)
    except OSError:
        return None
    return os.path.join(folder, RESULT_FILE_PREFIX + name[len("job-driver-") :])


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def versions(libraries: tuple[str, ...]) -> Record:
    """Which Python and which libraries wrote a value; those of the standard library go without saying."""
    standard = getattr(sys, "stdlib_module_names", ())
    found = {}
    for library in libraries:
        if library not in standard and library not in ("builtins", "airfreight", "__main__"):
            installed = version(library)
            if installed:
                found[library] = installed
    return {"python": python(), "libraries": found}


def generation(library: str, text: str) -> list[str]:
    """The part of a version that changes when pickles do: the first number, the first two before 1.0."""
    numbers = text.partition("+")[0].split(".")
    if library in _STEADY or len(numbers[0]) == 4:
        return []
    return numbers[:2] if numbers[0] == "0" else numbers[:1]


def python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def version(library: str) -> str | None:
    """The version of an installed library; asking the library itself is a hundred times as fast."""
    found = getattr(sys.modules.get(library), "__version__", None)
    if isinstance(found, str):
        return found
    from importlib import metadata

    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        pass
    try:
        names = metadata.packages_distributions().get(library, ())  # type: ignore[attr-defined,unused-ignore]
        return metadata.version(names[0]) if names else None
    except (AttributeError, metadata.PackageNotFoundError):
        return None


# What went wrong


def describe(error: BaseException, depth: int = 0, seen: tuple[int, ...] = ()) -> Record:
    """An exception with its lines, its causes and its notes, as the task can rebuild it."""
    seen = (*seen, id(error))
    described: Record = {
        "module": type(error).__module__,
        "type": type(error).__qualname__,
        "bases": [f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__[1:-1]],
        "text": _text(error),
        "frames": _frames(error.__traceback__),
        "suppress": error.__suppress_context__,
    }
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        described["notes"] = [str(note)[:_TEXT_LENGTH_MAX] for note in notes[:_GROUP_MAX]]
    if isinstance(error, SyntaxError):
        described["syntax"] = [error.filename, error.lineno, error.offset, error.text]
    parts = getattr(error, "exceptions", None)
    if depth < _CHAIN_MAX:
        if isinstance(parts, tuple) and all(isinstance(part, BaseException) for part in parts):
            described["exceptions"] = [
                describe(part, depth + 1, seen) for part in parts[:_GROUP_MAX] if id(part) not in seen
            ]
            described["text"] = str(getattr(error, "message", described["text"]))[:_TEXT_LENGTH_MAX]
        for name, other in (("cause", error.__cause__), ("context", error.__context__)):
            if other is not None and id(other) not in seen and not (name == "context" and "cause" in described):
                described[name] = describe(other, depth + 1, seen)
    return described


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as failure:  # noqa: BLE001
        text = f"<its text can't be had: {type(failure).__name__}>"
    return text if len(text) <= _TEXT_LENGTH_MAX else text[: _TEXT_LENGTH_MAX - 1] + "…"


def _is_own(file: str) -> bool:
    return os.path.basename(file) in _OWN or any(folder in file for folder in _OWN_FOLDERS)


def _frames(trace: Any) -> list[Any]:
    """The lines on the way to the error, without the driver's own unless there are no others."""
    frames = _all_frames(trace)
    told = [frame for frame in frames if not _is_own(frame[0])] or frames
    if len(told) > _FRAMES_MAX:
        half = _FRAMES_MAX // 2
        return told[:half] + told[-half:]
    return told


def _all_frames(trace: Any) -> list[Any]:
    import linecache
    from itertools import islice

    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        line = linecache.getline(code.co_filename, trace.tb_lineno, trace.tb_frame.f_globals).rstrip()
        position = [trace.tb_lineno, None, None, None]
        if hasattr(code, "co_positions"):
            exact = next(islice(code.co_positions(), trace.tb_lasti // 2, None), None)
            # A traceback's own line counts; the rest only if it agrees.
            position = list(exact) if exact and exact[0] == trace.tb_lineno else position
        frames.append([code.co_filename, code.co_name, line[:1000], *position])
        trace = trace.tb_next
    return frames


# The job's log


def say(record: Record) -> None:
    """Ends the log with the record; before it, for who reads the log in Ray's dashboard, with the traceback."""
    nonce = _nonce()
    flush()
    start = b"" if _at_line_start() else b"\n"
    text = readable(record) + MARK + nonce + " " + json.dumps(record) + "\n"
    _emit(start + text.encode("utf-8", "backslashreplace"))


def flush() -> None:
    """Lets what was printed so far come before what is written next."""
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


def readable(record: Record) -> str:
    """What went wrong, as lines for who reads the log in Ray's dashboard."""
    lines = []
    if "error" in record:
        lines = _traceback(record["error"])
    elif "refused" in record:
        lines = [record["refused"]["message"]]
    return "".join(MARK + "| " + part + "\n" for line in lines for part in line.split("\n"))


def _traceback(error: Record) -> list[str]:
    lines = ["Traceback (most recent call last):"]
    for file, name, line, number, *_ in error["frames"]:
        lines.append(f'  File "{file}", line {number}, in {name}')
        if line:
            lines.append(f"    {line.strip()}")
    name = error["type"] if error["module"] in ("builtins", "__main__") else f"{error['module']}.{error['type']}"
    return [*lines, f"{name}: {error['text']}"]


def _emit(data: bytes) -> None:
    while data:
        data = data[os.write(channel, data) :]


def _at_line_start() -> bool:
    try:
        descriptor = os.open(f"/proc/self/fd/{channel}", os.O_RDONLY)
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _nonce() -> str:
    """What tells the driver's lines from whatever a program prints; the client has chosen it for this job."""
    try:
        metadata = json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]
        return str(metadata["airfreight_nonce"])
    except (KeyError, TypeError, ValueError):
        return "-"
