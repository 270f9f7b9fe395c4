"""The way to a Ray of which only the dashboard can be reached, as through an ingress or a tunnel."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where nobody listens, and the kernel says so at once.
NOWHERE = "http://127.0.0.1:1"
_CHUNK = 1 << 18


@contextmanager
def dashboard_alone(address: str) -> Iterator[str]:
    """Another address of a dashboard, under which it tells nobody how to reach the agents of its nodes."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer = opener.open(address + self.path, timeout=60)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
                self.send_header("Connection", "close")
                self.end_headers()
                if self.path.startswith("/api/jobs/"):
                    self.wfile.write(_without_agents(answer.read()))
                else:
                    shutil.copyfileobj(answer, self.wfile, _CHUNK)

        def log_message(self, *arguments: object) -> None:
            """Nobody asked."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _without_agents(body: bytes) -> bytes:
    try:
        answer = json.loads(body)
    except ValueError:
        return body
    for job in answer if isinstance(answer, list) else [answer]:
        if isinstance(job, dict) and job.get("driver_agent_http_address"):
            job["driver_agent_http_address"] = NOWHERE
    return json.dumps(answer).encode()
