"""A proxy before an S3 server: it refuses, throttles, damages and cuts, as it is told."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """
    What happens to requests.

    :param matches: which requests, by method and path with query.
    :param times: how often; ``None`` is always.
    :param kind: ``refuse``, ``throttle``, ``damage`` (one bit of the answer), ``cut`` (the answer, or the request).
    """

    kind: str
    matches: Callable[[str, str], bool]
    times: int | None = None
    hits: int = field(default=0)


class FaultProxy:
    """Stands before a server until its context ends."""

    def __init__(self, target: str) -> None:
        self.faults: list[Fault] = []
        self.seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_all(self) -> None:
                proxy.handle(self, urlsplit(target).netloc)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_all

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *args: Any) -> None:
                pass  # clients that were cut

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def on(self, kind: str, method: str = "", part: str = "", times: int | None = None) -> Fault:
        """Adds a fault for requests of a method whose path has ``part`` in it."""
        fault = Fault(kind, lambda m, path: method in ("", m) and part in path, times)
        self.faults.append(fault)
        return fault

    def _fault(self, method: str, path: str) -> str | None:
        with self._lock:
            self.seen[method] += 1
            for fault in self.faults:
                if fault.matches(method, path) and (fault.times is None or fault.hits < fault.times):
                    fault.hits += 1
                    return fault.kind
        return None

    def handle(self, request: BaseHTTPRequestHandler, target: str) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        kind = self._fault(request.command, request.path)
        if kind == "cut" and request.command in ("PUT", "POST"):
            request.rfile.read(length // 2)
            request.close_connection = True
            return
        body = request.rfile.read(length)
        if kind in ("refuse", "throttle"):
            status, code = (403, "AccessDenied") if kind == "refuse" else (503, "SlowDown")
            text = f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()
            self._answer(request, status, {"Content-Type": "application/xml"}, text)
            return
        connection = http.client.HTTPConnection(target, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if kind == "damage" and content:
            content = (
                content[: len(content) // 2]
                + bytes([content[len(content) // 2] ^ 1])
                + content[len(content) // 2 + 1 :]
            )
        found = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        size = answer.getheader("Content-Length") if request.command == "HEAD" else None
        self._answer(request, answer.status, found, content, cut=kind == "cut", length=size)

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        content: bytes,
        *,
        cut: bool = False,
        length: str | None = None,
    ) -> None:
        request.send_response_only(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", length or str(len(content)))
        request.end_headers()
        if request.command == "HEAD":
            return
        if cut:
            request.wfile.write(content[: len(content) // 2])
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(2)
            return
        request.wfile.write(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
