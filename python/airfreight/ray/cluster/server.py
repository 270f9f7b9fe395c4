"""
The runner's own port: HTTP/1.1 with connections that stay, one thread for each.

Small on purpose: requests of a known client, bodies of a known length. Python's own server takes several times as long
for a request, most of it for headers that nobody reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .routes import Router

    Record = dict[str, Any]

#: A request's body in memory; chunks of values don't come into it.
BODY_BYTES_MAX = 16 * 1024 * 1024
#: What of a long body is in memory at a time.
_PIECE_BYTES = 1024 * 1024
_HEAD_BYTES_MAX = 32 * 1024
_BACKLOG = 256
#: A connection on which nothing comes is closed; the client opens another.
_IDLE_SECONDS = 300.0

_REASONS = {
    200: "OK",
    206: "Partial Content",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    409: "Conflict",
    410: "Gone",
    413: "Content Too Large",
    416: "Range Not Satisfiable",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Server:
    """
    Answers on a port of this node.

    :param port: which; 0: any.
    :param token: who knows it may ask for anything.
    """

    def __init__(self, router: Router, port: int, token: str, who: Record) -> None:
        self._router = router
        self._token = token
        self._who = who
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, name="airfreight-accept", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _limit_silence(connection)
            stream = Stream(connection)
            while self._exchange(stream):
                pass

    def _exchange(self, stream: Stream) -> bool:
        """One request and its answer; false ends the connection."""
        try:
            request = stream.request()
        except Problem as problem:
            stream.answer(problem.status, _json(problem.body()), close=True)
            return False
        if request is None:
            return False
        try:
            if request.path == "/v1/ping" and request.method == "GET":
                stream.answer(200, _json(self._ping(request.query.get("nonce", ""))))
                return True
            self._check(request)
            self._router.serve(request, stream)
        except Problem as problem:
            stream.answer(problem.status, _json(problem.body()))
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - the client is to know, and the next request is another one
            failure = Problem("Internal", f"the runner has failed: {type(error).__name__}: {error}")
            stream.answer(500, _json(failure.body()), close=True)
            return False
        return stream.finish(request)

    def _ping(self, nonce: str) -> Record:
        if not 16 <= len(nonce) <= 128:
            raise Problem("Invalid", "a ping needs a nonce of 16 to 128 characters")
        proof = hmac.new(self._token.encode(), nonce.encode(), hashlib.sha256).hexdigest()
        return {**self._who, "proof": proof}

    def _check(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise Problem(
                "Denied", "the token isn't this runner's", "read the runner's file again: it may have restarted"
            )


class Request:
    """One request; its body may still be on its way."""

    def __init__(self, method: str, target: str, headers: dict[str, str]) -> None:
        self.method = method
        parts = urlsplit(target)
        self.path = parts.path
        #: The path's parts, without the version.
        self.parts = [unquote(part) for part in parts.path.split("/")[2:]]
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.headers = headers
        #: What was sent along, unless it is read as it comes.
        self.body = b""
        try:
            self.length = int(headers.get("content-length", "0"))
        except ValueError:
            raise Problem("Invalid", "the request's Content-Length is no number") from None

    def number(self, name: str, default: float, most: float) -> float:
        """A number of the query, within bounds."""
        try:
            return min(max(float(self.query.get(name, default)), 0.0), most)
        except ValueError:
            raise Problem("Invalid", f"{name} of the query is no number: {self.query[name]!r}") from None


class Stream:
    """What comes over one connection, and goes back."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = bytearray()
        self._left = 0
        self._room: memoryview | None = None

    def request(self) -> Request | None:
        """The next request's head; ``None`` when there is no more."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0:
                break
            if len(self._buffer) > _HEAD_BYTES_MAX:
                raise Problem("Invalid", "the request's head is too long")
            data = self.connection.recv(65536)
            if not data:
                return None
            self._buffer += data
        head = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        try:
            method, target, _ = head[0].split(" ")
            pairs = (line.split(":", 1) for line in head[1:])
            headers = {name.lower(): value.strip() for name, value in pairs}
        except ValueError:
            raise Problem("Invalid", "that is no request of HTTP/1.1") from None
        if "transfer-encoding" in headers:
            raise Problem("Invalid", "a request's body must have a Content-Length")
        request = Request(method, target, headers)
        self._left = request.length
        if headers.get("expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return request

    def body(self) -> bytes:
        """The whole body of the request."""
        if self._left > BODY_BYTES_MAX:
            raise Problem("Full", f"the request's body has {self._left} bytes, and at most {BODY_BYTES_MAX} are read")
        whole = bytearray(self._left)
        self.read_into(memoryview(whole))
        return bytes(whole)

    def read_into(self, view: memoryview) -> None:
        """Reads a part of the body straight to where it is to be."""
        if len(view) > self._left:
            raise Problem("Invalid", f"the request's body ends {len(view) - self._left} bytes too early")
        taken = min(len(self._buffer), len(view))
        view[:taken] = self._buffer[:taken]
        del self._buffer[:taken]
        self._left -= taken
        while taken < len(view):
            count = self.connection.recv_into(view[taken:], 0, socket.MSG_WAITALL)
            if not count:
                raise ConnectionError("the client has gone in the middle of a request")
            taken += count
            self._left -= count

    def pieces(self, length: int) -> Iterator[memoryview]:
        """The next part of the body, piece by piece, each of which takes the place of the one before."""
        if self._room is None:
            # Fresh memory for each would take as long as what is read into it.
            self._room = memoryview(bytearray(_PIECE_BYTES))
        for start in range(0, length, _PIECE_BYTES):
            piece = self._room[: length - start]
            self.read_into(piece)
            yield piece

    def pieces_into(self, view: memoryview) -> Iterator[memoryview]:
        """The next part of the body, read straight to where it is to be, piece by piece."""
        for start in range(0, len(view), _PIECE_BYTES):
            piece = view[start : start + _PIECE_BYTES]
            self.read_into(piece)
            yield piece

    def cut(self) -> None:
        """Ends the connection from another thread, and with it whatever waits for something to come."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def answer(self, status: int, body: bytes, *, headers: str = "", close: bool = False) -> None:
        """Sends a short answer."""
        self.connection.sendall(_head(status, len(body), "application/json", headers, close=close) + body)

    def answer_pieces(self, status: int, pieces: list[memoryview], headers: str) -> None:
        """Sends an answer of long pieces of memory, none of which is copied here."""
        length = sum(map(len, pieces))
        self.connection.sendall(_head(status, length, "application/octet-stream", headers))
        for piece in pieces:
            self.connection.sendall(piece)

    def finish(self, request: Request) -> bool:
        """Gets ready for the next request; false when there can't be one."""
        if self._left > BODY_BYTES_MAX:
            return False
        if self._left:
            self.body()
        return request.headers.get("connection", "").lower() != "close"


def _head(status: int, length: int, kind: str, headers: str, *, close: bool = False) -> bytes:
    return (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"{headers}{'Connection: close' if close else 'Connection: keep-alive'}\r\n\r\n"
    ).encode("latin-1")


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _limit_silence(connection: socket.socket) -> None:
    """As a timeout does, but by the kernel: Python asks first whether there is anything, each time."""
    limit = struct.pack("ll", int(_IDLE_SECONDS), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _listen(port: int) -> socket.socket:
    """A socket for whoever reaches this node."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("0.0.0.0", port))  # noqa: S104 - the token guards it; workers are on other hosts
    except OSError:
        if not port:
            raise
        # Taken, perhaps by the runner of another version: workers read which port it is.
        listening.bind(("0.0.0.0", 0))  # noqa: S104
    listening.listen(_BACKLOG)
    return listening
