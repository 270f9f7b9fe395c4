"""The log of one call: whatever its process prints, in whatever language, in a file that the dashboard serves."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from . import place

if TYPE_CHECKING:
    from typing_extensions import Self

#: A log that isn't longer comes along with the outcome.
TAIL_BYTES_MAX = 64 * 1024

_streams: list[Any] = []


class CallLog:
    """
    Sends both standard streams of this process into the file of a call.

    It is named as a job's log is, so that all that reads one reads the other.

    :param call_id: the call's.
    """

    def __init__(self, call_id: str) -> None:
        self._path = _path(call_id)
        self._saved: list[int] = []
        self.nbytes = 0
        #: The whole log, if it is short.
        self.tail: str | None = None

    def __enter__(self) -> Self:
        _flush(sys.stdout, sys.stderr)
        self._before = sys.stdout, sys.stderr
        self._saved = [os.dup(1), os.dup(2)]
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(self._file, 1)
        os.dup2(self._file, 2)
        if not _streams:
            # Kept for the next call: loggers that one call has set up may hold on to them.
            _streams.extend(_stream(number) for number in (1, 2))
        sys.stdout, sys.stderr = _streams
        return self

    def write(self, text: str) -> None:
        """Adds lines, after what was printed so far."""
        _flush(*_streams)
        size = os.fstat(self._file).st_size
        if text:
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                text = "\n" + text
            os.write(self._file, text.encode("utf-8", "backslashreplace"))

    def __exit__(self, *_: object) -> None:
        _flush(sys.stdout, sys.stderr, *_streams)
        sys.stdout, sys.stderr = self._before
        for number, saved in zip((1, 2), self._saved):  # noqa: B905 - not in Python 3.8
            os.dup2(saved, number)
            os.close(saved)
        self.nbytes = os.fstat(self._file).st_size
        if self.nbytes <= TAIL_BYTES_MAX:
            self.tail = os.pread(self._file, self.nbytes, 0).decode("utf-8", "replace")
        os.close(self._file)

    @staticmethod
    def read(call_id: str) -> dict[str, Any]:
        """What is in the log of a call that can't tell any more."""
        try:
            with open(_path(call_id), "rb") as file:
                nbytes = os.fstat(file.fileno()).st_size
                tail = file.read().decode("utf-8", "replace") if nbytes <= TAIL_BYTES_MAX else None
        except OSError:
            return {}
        return {"log_bytes": nbytes, "tail": tail}


def _path(call_id: str) -> str:
    return os.path.join(place.logs(), f"job-driver-{call_id}.log")


def _stream(number: int) -> Any:
    raw = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115 - open as long as the process
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="backslashreplace", line_buffering=True)


def _flush(*streams: Any) -> None:
    for stream in streams:
        with contextlib.suppress(Exception):
            stream.flush()
