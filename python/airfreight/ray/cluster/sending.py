"""Object files to and from a URL, such as a presigned one of a bucket."""

from __future__ import annotations

import http.client
import json
import time
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import objectfile
from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from .packed import Packed

_PIECE_BYTES = 1024 * 1024
_TIMEOUT_SECONDS = 120.0
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.5


def to_url(packed: Packed, name: str, url: str, headers: dict[str, str]) -> str:
    """
    Puts the object file of a value to a URL: a task, which Ray runs where the value is.

    :returns: as JSON: the bytes and their checksums, or the problem.
    """
    file = objectfile.File(objectfile.pieces(packed, name))
    try:
        _again(lambda: _put(url, file, headers))
    except Problem as problem:
        return json.dumps({"problem": [problem.kind, problem.message, problem.hint]})
    return json.dumps({"nbytes": file.nbytes, "crc32": file.checksums()})


def from_url(url: str, write: Callable[[bytes], Any], nbytes: int, chunk: int, checksums: list[int]) -> None:
    """
    Reads a file from a URL.

    :param write: takes it, piece by piece.
    :param checksums: the CRC-32 of each chunk.
    :raises Problem: it can't be had, or isn't what it should be.
    """
    connection, target = _connect(url)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refused("GET", url, answer)
        position = 0
        for index, checksum in enumerate(checksums):
            crc = 0
            end = min((index + 1) * chunk, nbytes)
            while position < end:
                piece = answer.read(min(_PIECE_BYTES, end - position))
                if not piece:
                    raise Problem("Unavailable", f"{_shown(url)} has ended after {position} of {nbytes} bytes")
                crc = zlib.crc32(piece, crc)
                write(piece)
                position += len(piece)
            if crc != checksum:
                raise Problem("Corrupt", f"what {_shown(url)} gave has changed on its way", "send it again")
    except (OSError, http.client.HTTPException) as error:
        raise Problem("Unavailable", f"can't read {_shown(url)}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _put(url: str, file: objectfile.File, headers: dict[str, str]) -> None:
    connection, target = _connect(url)
    try:
        connection.putrequest("PUT", target)
        for name, value in {**headers, "Content-Length": str(file.nbytes)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for start in range(0, file.nbytes, objectfile.CHUNK_BYTES):
            for piece in file.part(start, min(start + objectfile.CHUNK_BYTES, file.nbytes)):
                connection.send(piece)
        answer = connection.getresponse()
        answer.read()
        if answer.status not in (200, 201, 204):
            raise _refused("PUT", url, answer)
    except (OSError, http.client.HTTPException) as error:
        raise Problem("Unavailable", f"can't write {_shown(url)}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


def _again(work: Callable[[], None]) -> None:
    """Tries a few times what may work a moment later."""
    for attempt in range(_ATTEMPTS):
        try:
            return work()
        except Problem as problem:
            if problem.kind != "Unavailable" or attempt + 1 == _ATTEMPTS:
                raise
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    return None


def _connect(url: str) -> tuple[Any, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Problem("Invalid", f"{_shown(url)} is no URL that the cluster can reach")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return kind(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS), target


def _refused(method: str, url: str, answer: Any) -> Problem:
    kind = "Denied" if answer.status in (401, 403) else "NotFound" if answer.status == 404 else "Unavailable"
    return Problem(
        kind, f"{_shown(url)} answers {answer.status} to {method}", "look at the bucket's credentials and rules"
    )


def _shown(url: str) -> str:
    """A URL without what signs it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"
