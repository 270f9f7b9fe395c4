"""A client of the runner's protocol in little Python: over its own port, or with the dashboard's alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import itertools
import json
import secrets
import time
import urllib.error
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from airfreight.ray import skew
from airfreight.ray.function import Function
from airfreight.ray.parcel import Parcel, driver_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ray_home import RayHome

OVER = ("SUCCEEDED", "FAILED", "STOPPED")
START_SECONDS = 120.0


class RefusedError(Exception):
    """The runner's answer is an error."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {error}")
        self.status = status
        self.kind = error["kind"]
        self.message = error["message"]
        self.hint = error["hint"]


class EndedError(Exception):
    """The runner's job has ended."""


@dataclass
class Input:
    """A value of the cluster as an argument."""

    value: Mapping[str, Any]


@dataclass
class RunnerHome:
    """
    A runner on a cluster.

    :param ray: the cluster.
    :param idle_seconds: after which it ends.
    :param job: the submission id of its job.
    """

    ray: RayHome
    idle_seconds: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)
    job: str = ""
    _connection: http.client.HTTPConnection | None = None

    @property
    def id(self) -> str:
        return f"airfreight-runner-{hashlib.sha256(driver_package()).hexdigest()[:12]}"

    def start(self) -> None:
        """Submits the runner's job, each under another id, and waits until it has written where it is."""
        self.job = f"{self.id}-{secrets.token_hex(4)}"
        self._submit()
        self.find()

    def _submit(self) -> None:
        name = f"_ray_pkg_{hashlib.sha1(driver_package()).hexdigest()}.zip"
        self.put_package(name, driver_package())
        self.ray.request(
            "POST",
            "/api/jobs/",
            {
                "entrypoint": "python -c 'import airfreight_runner; airfreight_runner.hold()'",
                "submission_id": self.job,
                "metadata": {"airfreight_runner": "1"},
                "runtime_env": {
                    "py_modules": [f"gcs://{name}"],
                    "env_vars": {
                        "AIRFREIGHT_RUNNER_ID": self.id,
                        "AIRFREIGHT_RUNNER_PORT": "0",
                        "AIRFREIGHT_RUNNER_IDLE_SECONDS": str(self.idle_seconds),
                    },
                },
            },
        )

    def find(self, *, after: str | None = None) -> None:
        """Reads where the runner is, once that is another start of it than ``after``."""
        deadline = time.monotonic() + START_SECONDS
        path = self.ray.logs / "airfreight" / f"{self.id}.json"
        while time.monotonic() < deadline:
            if path.exists():
                about = json.loads(path.read_text())
                if about["epoch"] != after:
                    self.about = about
                    self.close()
                    return
            job = self.ray.job(self.job)
            assert job is not None
            if job["status"] in OVER:
                raise EndedError(job, self.ray.log(self.job))
            time.sleep(0.02)
        raise AssertionError(f"no runner: {self.ray.log(self.job)}")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    # The own port

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Any:
        """One request over the own port; bytes are given as they are."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.about["port"], timeout=120)
            nonce = secrets.token_hex(16)
            answer = self._exchange("GET", f"/v1/ping?nonce={nonce}", None, {})
            proof = hmac.new(self.about["token"].encode(), nonce.encode(), hashlib.sha256).hexdigest()
            assert json.loads(answer[2])["proof"] == proof
        given = {"Authorization": f"Bearer {token or self.about['token']}", **(headers or {})}
        sent = data if data is not None else None if body is None else json.dumps(body).encode()
        status, kind, found = self._exchange(method, path, sent, given)
        if kind == "application/octet-stream":
            return found
        parsed = json.loads(found)
        if status >= 400:
            raise RefusedError(status, parsed["error"])
        return parsed

    def _exchange(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        assert self._connection is not None
        try:
            self._connection.request(method, path, body=body, headers=dict(headers))
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    # The mailbox

    def mail(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        """One request through the dashboard."""
        message = secrets.token_hex(16)
        letter = {"token": token or self.about["token"], "method": method, "path": path, "body": body}
        self.put_package(f"afin_{self.id}_{message}", json.dumps(letter).encode())
        name = quote(f"airfreight/{self.about['generation']}/{message}.json", safe="")
        url = f"/api/v0/logs/file?node_id={self.about['node_id']}&filename={name}&lines=-1"
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                answer = json.loads(self.ray.request("GET", url))
            except (urllib.error.HTTPError, ValueError):
                # Ray answers a request for a file that isn't there in one way or the other.
                time.sleep(0.002)
                continue
            if answer["status"] >= 400:
                raise RefusedError(answer["status"], answer["body"]["error"])
            return answer["body"]
        raise AssertionError(f"no answer to {method} {path}")

    def put_package(self, name: str, data: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.ray.ports["dashboard"], timeout=60)
        connection.request("PUT", f"/api/packages/gcs/{name}", body=data)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        connection.close()


class Run:
    """
    A DAG run whose tasks are called in order.

    :param home: the runner.
    """

    _numbers = itertools.count()

    def __init__(self, home: RunnerHome, *, mail: bool = False, folder: Path | None = None) -> None:
        self.home = home
        self.ask: Callable[..., Any] = home.mail if mail else home.request
        self.name = f"airfreight-owner-{secrets.token_hex(10)}"
        self.info = {"deployment": "d", "dag_id": "flights", "run_id": f"r{next(self._numbers)}"}
        self.folder = folder

    def wanted(self, callable_: Callable[..., Any], args: Iterable[Any] = (), **more: Any) -> dict[str, Any]:
        """A call as it is sent."""
        given = list(args)
        inputs = [arg.value for arg in given if isinstance(arg, Input)]
        numbers = {id(arg): number for number, arg in enumerate(arg for arg in given if isinstance(arg, Input))}
        function = Function(callable_, [self.folder] if self.folder else [])
        arguments = _argument(function, tuple(given), numbers)
        parcel = Parcel(
            function,
            arguments,
            environment={"AIRFLOW_CTX_TASK_ID": "there"},
            libraries=skew.versions(function.libraries()),
        )
        number = next(self._numbers)
        return {
            "id": f"af-{self.name[-6:]}-{number}-0-1",
            "nonce": secrets.token_hex(8),
            "name": f"flights.{function.name}",
            "owner": {"name": self.name, **self.info},
            "metadata": {},
            "options": {"num_cpus": 1, **more.pop("options", {})},
            "isolation": "pool",
            "eager": False,
            "parcel": {
                "name": parcel.name,
                "zips": [base64.b64encode(package).decode() for package in parcel.packages()],
            },
            "inputs": [{name: value[name] for name in ("owner", "generation", "key")} for value in inputs],
            "parts": "none",
            "inline_bytes_max": 12288,
            **more,
        }

    def begin(self, wanted: Mapping[str, Any], *, wait: float = 0.0) -> dict[str, Any]:
        state: dict[str, Any] = self.ask("POST", f"/v1/calls?wait={wait}", wanted)
        return state

    def state(self, call_id: str, *, seen: int = -1, wait: float = 0.0) -> dict[str, Any]:
        query = urlencode({"owner": self.name, "seen": seen, "wait": wait})
        state: dict[str, Any] = self.ask("GET", f"/v1/calls/{call_id}?{query}")
        return state

    def wait(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a call when it is over."""
        found = dict(state)
        deadline = time.monotonic() + 120
        while found["status"] not in OVER:
            assert time.monotonic() < deadline, found
            found = self.state(found["id"], seen=found["version"], wait=10)
        return found

    def running(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a call when it has begun."""
        found = dict(state)
        while found["status"] == "PENDING":
            found = self.state(found["id"], seen=found["version"], wait=10)
        assert found["status"] == "RUNNING", found
        return found

    def call(self, callable_: Callable[..., Any], *args: Any, **more: Any) -> dict[str, Any]:
        """A call from its beginning to its end."""
        return self.wait(self.begin(self.wanted(callable_, args, **more), wait=1.0))

    def result(self, callable_: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """What a call has returned: JSON, or a value of the cluster as an input."""
        state = self.call(callable_, *args, **more)
        assert state["status"] == "SUCCEEDED", state
        found = state["record"]["result"]
        if "value" in found:
            return Input(found["value"])
        return found.get("json", found)

    def cancel(self, call_id: str) -> bool:
        found: bool = self.ask("POST", f"/v1/calls/{call_id}/cancel?owner={self.name}")["cancelled"]
        return found

    def end(self) -> None:
        self.ask("DELETE", f"/v1/owners/{self.name}")

    def value_path(self, value: Input) -> str:
        return f"/v1/values/{self.name}/{quote(value.value['key'], safe='')}?generation={value.value['generation']}"


def _argument(function: Function, args: tuple[Any, ...], numbers: Mapping[int, int]) -> dict[str, Any]:
    """Pickles arguments in which inputs are persistent ids, as the worker's pickler does."""
    from airfreight.ray import payload

    original = payload._Pickler
    made = type(
        "Pickler",
        (original,),
        {"persistent_id": lambda _, found: ("airfreight", numbers[id(found)]) if id(found) in numbers else None},
    )
    payload._Pickler = made  # type: ignore[misc]
    try:
        return function.argument(args, {})
    finally:
        payload._Pickler = original  # type: ignore[misc]


def crc32(data: Any) -> str:
    return f"{zlib.crc32(data):08x}"
