"""
The way to a runner for who has the dashboard's port alone.

A package that is put into Ray's store of packages is a key there, which the runner finds, takes out and answers in a
file below Ray's logs, which the dashboard serves. Nothing has to be opened for it; the same credentials as for jobs let
one in.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from . import place
from .problem import Problem
from .server import Request

if TYPE_CHECKING:
    from .routes import Router

    Record = dict[str, Any]

_BUSY_SECONDS = 0.002
_IDLE_SECONDS = 0.03
#: After a request, more are likely for so long.
_BUSY_FOR_SECONDS = 1.0
_ANSWER_SECONDS = 60.0
_THREADS = 64


class Mailbox:
    """
    Answers requests that lie in Ray's store of packages.

    :param folder: where answers are written.
    """

    def __init__(self, router: Router, runner_id: str, token: str, folder: str) -> None:
        self._router = router
        self._prefix = f"gcs://afin_{runner_id}_".encode()
        self._token = token
        self._folder = folder
        self._busy_until = 0.0
        self._in_work: set[bytes] = set()
        self._answers: list[tuple[float, str]] = []
        self._pool = ThreadPoolExecutor(_THREADS, "airfreight-mail")
        threading.Thread(target=self._poll, name="airfreight-mailbox", daemon=True).start()

    def _poll(self) -> None:
        from ray.experimental.internal_kv import _internal_kv_list

        while True:
            try:
                for key in _internal_kv_list(self._prefix):
                    if key not in self._in_work:
                        self._in_work.add(key)
                        self._busy_until = time.monotonic() + _BUSY_FOR_SECONDS
                        self._pool.submit(self._work, bytes(key))
            except Exception:  # noqa: BLE001 - Ray's head restarts, or is busy
                time.sleep(1.0)
            self._clean()
            time.sleep(_BUSY_SECONDS if time.monotonic() < self._busy_until else _IDLE_SECONDS)

    def _work(self, key: bytes) -> None:
        from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get

        try:
            letter = _internal_kv_get(key)
            _internal_kv_del(key)
            name = key[len(self._prefix) :].decode()
            if letter is None or not name.isalnum():
                return
            status, body = self._answer(letter)
            path = os.path.join(self._folder, f"{name}.json")
            draft = f"{path}.draft"
            with open(draft, "wb") as file:
                file.write(b'{"status":%d,"body":%s}' % (status, body))
            os.replace(draft, path)
            self._answers.append((time.monotonic() + _ANSWER_SECONDS, path))
        finally:
            self._busy_until = time.monotonic() + _BUSY_FOR_SECONDS
            self._in_work.discard(key)

    def _answer(self, letter: bytes) -> tuple[int, bytes]:
        try:
            return 200, self._router.answer(self._opened(letter))
        except Problem as problem:
            return problem.status, json.dumps(problem.body()).encode()
        except Exception as error:  # noqa: BLE001 - the client is to know
            failure = Problem("Internal", f"the runner has failed: {type(error).__name__}: {error}")
            return 500, json.dumps(failure.body()).encode()

    def _opened(self, letter: bytes) -> Request:
        try:
            wanted = json.loads(letter)
            token, method, target = wanted["token"], wanted["method"], wanted["path"]
        except (ValueError, KeyError, TypeError):
            raise Problem("Invalid", "that is no letter for a runner") from None
        if not hmac.compare_digest(str(token).encode(), self._token.encode()):
            raise Problem(
                "Denied", "the token isn't this runner's", "read the runner's file again: it may have restarted"
            )
        body = wanted.get("body")
        request = Request(method, target, {})
        request.body = b"" if body is None else json.dumps(body).encode("utf-8", "surrogatepass")
        return request

    def _clean(self) -> None:
        while self._answers and self._answers[0][0] < time.monotonic():
            _, path = self._answers.pop(0)
            with contextlib.suppress(OSError):
                os.unlink(path)


def folder(generation: str) -> str:
    """Where the answers of a runner are, as the dashboard names it and as a path."""
    path = os.path.join(place.logs(), "airfreight", generation)
    os.makedirs(path, exist_ok=True)
    return path
