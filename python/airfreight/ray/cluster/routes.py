"""What can be asked of a runner: the requests, the same over its own port and over the mailbox."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

from .problem import Problem

if TYPE_CHECKING:
    from .events import Events
    from .exports import Exports
    from .owners import Owners
    from .server import Request, Stream
    from .uploads import Uploads

    Record = dict[str, Any]

#: Nobody waits longer for one answer.
WAIT_SECONDS_MAX = 60.0


class Router:
    """
    Finds who answers a request.

    :param owners: the owners of this cluster.
    :param events: what has changed in their calls.
    """

    def __init__(self, owners: Owners, events: Events, exports: Exports, uploads: Uploads) -> None:
        self._owners = owners
        self._events = events
        self._exports = exports
        self._uploads = uploads
        #: Somebody has asked the runner to end.
        self.ended = threading.Event()
        #: When the last request came, by the monotonic clock.
        self.used_at = time.monotonic()

    def serve(self, request: Request, stream: Stream) -> None:
        """Answers a request over a connection."""
        self.used_at = time.monotonic()
        kind, *rest = request.parts or [""]
        if kind == "uploads" and request.method == "PUT":
            stream.answer(200, _json(self._uploads.receive(*_value(rest), request, stream)))
        elif kind == "exports" and request.method == "GET" and rest[1:] == ["data"]:
            self._exports.send(rest[0], request, stream)
        else:
            request.body = stream.body() if request.length else b""
            stream.answer(200, self.answer(request))
        self.used_at = time.monotonic()

    def answer(self, request: Request) -> bytes:
        """
        The answer to a request whose body is there.

        :raises Problem: it can't be met.
        """
        self.used_at = time.monotonic()
        kind = request.parts[0] if request.parts else ""
        method = getattr(self, f"_{request.method.lower()}_{kind}", None)
        if method is None or not request.path.startswith("/v1/"):
            raise Problem("NotFound", f"this runner doesn't know {request.method} {request.path}", "update Airfreight")
        answer = method(request)
        return answer if isinstance(answer, bytes) else _json(answer)

    # Calls

    def _post_calls(self, request: Request) -> Any:
        if request.parts[2:] == ["cancel"]:
            found = self._owners.ask(_owner(request), "cancel", request.parts[1])
            if found is None:
                raise _no_call(request.parts[1])
            return {"cancelled": found}
        wait = request.number("wait", 0.0, WAIT_SECONDS_MAX)
        wanted = _parsed(request.body)
        for _ in range(2):
            owner = self._owners.make(wanted["owner"])
            try:
                return self._owners.ask_handle(wanted["owner"]["name"], owner, "call", request.body, wait, wait=wait)
            except Problem as problem:
                # An owner that has ended meanwhile: the call begins in a new one.
                if problem.kind != "Lost":
                    raise
        raise Problem("Unavailable", f"the owner {wanted['owner']['name']} ends as soon as it is made")

    def _get_calls(self, request: Request) -> Any:
        if request.parts[1:]:
            wait = request.number("wait", 0.0, WAIT_SECONDS_MAX)
            seen = int(request.number("seen", -1.0, 1e12)) if "seen" in request.query else -1
            found = self._owners.ask(_owner(request), "state", request.parts[1], seen, wait, wait=wait)
            if found is None:
                raise _no_call(request.parts[1])
            return found
        names = [request.query["owner"]] if "owner" in request.query else self._owners.names()
        calls = []
        for name in names:
            try:
                calls += self._owners.ask(name, "calls")
            except Problem as problem:
                if problem.kind != "Lost" or "owner" in request.query:
                    raise
        return {"calls": calls}

    def _get_events(self, request: Request) -> Any:
        wait = request.number("wait", 0.0, WAIT_SECONDS_MAX)
        return self._events.since(request.query.get("epoch", ""), int(request.number("since", 0, 1e15)), wait)

    # Owners and values

    def _get_owners(self, _request: Request) -> Any:
        found = []
        for name in self._owners.names():
            try:
                found.append(self._owners.ask(name, "about"))
            except Problem as problem:
                if problem.kind != "Lost":
                    raise
        return {"owners": found}

    def _delete_owners(self, request: Request) -> Any:
        owner = _one(request.parts[1:])
        self._exports.end_of(owner)
        return {"dropped": self._owners.end(owner)}

    def _get_values(self, request: Request) -> Any:
        owner, key = _value(request.parts[1:])
        try:
            found = self._owners.ask(owner, "look", key, request.query.get("generation", ""))
        except Problem as problem:
            if problem.kind != "Lost":
                raise
            found = None
        return {"state": "gone"} if found is None else {"state": "there", **found}

    def _delete_values(self, request: Request) -> Any:
        owner, key = _value(request.parts[1:])
        self._exports.end_of(owner, key)
        try:
            return {"dropped": self._owners.ask(owner, "drop", key)}
        except Problem as problem:
            if problem.kind != "Lost":
                raise
            return {"dropped": False}

    # Ways out of the cluster and into it

    def _post_exports(self, request: Request) -> Any:
        return self._exports.begin(_parsed(request.body), request.number("wait", 0.0, WAIT_SECONDS_MAX))

    def _delete_exports(self, request: Request) -> Any:
        return {"ended": self._exports.end(_one(request.parts[1:]))}

    def _get_uploads(self, request: Request) -> Any:
        return self._uploads.state(*_value(request.parts[1:]))

    def _post_uploads(self, request: Request) -> Any:
        value, wanted = _value(request.parts[1:3]), _parsed(request.body)
        if request.parts[3:] == ["begin"]:
            return self._uploads.begin(*value, wanted)
        if request.parts[3:] == ["finish"]:
            return self._uploads.finish(*value, wanted, request.number("wait", 0.0, WAIT_SECONDS_MAX))
        raise Problem("NotFound", f"this runner doesn't know {request.method} {request.path}", "update Airfreight")

    # The runner itself

    def _post_end(self, _request: Request) -> Any:
        self.ended.set()
        return {"ended": True}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _parsed(body: bytes) -> Record:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Problem("Invalid", f"the request's body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Problem("Invalid", "the request's body is no object of JSON")
    return found


def _owner(request: Request) -> str:
    if "owner" not in request.query:
        raise Problem("Invalid", "the request doesn't say which owner's call it means")
    return str(request.query["owner"])


def _one(rest: list[str]) -> str:
    if len(rest) != 1:
        raise Problem("Invalid", "the request's path is too long or too short")
    return rest[0]


def _value(rest: list[str]) -> tuple[str, str]:
    if len(rest) != 2:
        raise Problem("Invalid", "the path of a value is its owner and its key, each percent-encoded")
    return rest[0], rest[1]


def _no_call(call_id: str) -> Problem:
    return Problem(
        "NotFound", f"the owner has no call {call_id}", "it was never begun, or its DAG run's owner has restarted"
    )
