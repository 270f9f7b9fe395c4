"""Goal: only who surely has a triggerer relies on it unasked. Method: a server that tells of Airflow's health."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from airfreight.apolo import triggerer
from airfreight.operators.apolo import ApoloRunOperator
from airfreight.operators.neuro import NeuroRunOperator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apolo_home import Platform
    from conftest import Task

SLOW_START = f"plan {json.dumps([{'sleep': 1}, {'status': 'running'}, {'sleep': 3600}])}"
HEALTHY = {"triggerer": {"status": "healthy"}}


class Health:
    """What Airflow answers, and what it was asked for."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = HEALTHY
        self.paths: list[str] = []


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Iterator[Health]:
    health = Health()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            health.paths.append(self.path)
            body = json.dumps(health.body).encode()
            self.send_response(health.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv(
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"http://127.0.0.1:{server.server_port}/execution/"
        )
        yield health
        server.shutdown()


def test_airflow_says_that_there_is_one(health: Health) -> None:
    assert triggerer.is_alive()
    assert health.paths == ["/api/v2/monitor/health"]


def test_the_address_of_the_api_will_do(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    address = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].removesuffix("/execution/")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"{address}/air")
    assert triggerer.is_alive()
    assert health.paths == ["/air/api/v2/monitor/health"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"triggerer": {"status": "unhealthy"}}),
        (200, {"triggerer": {"status": None}}),
        (200, {}),
        (200, []),
        (404, HEALTHY),
        (500, HEALTHY),
    ],
)
def test_any_other_answer_is_none(status: int, body: Any, health: Health) -> None:
    health.status, health.body = status, body
    assert not triggerer.is_alive()


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/execution/", "file:///etc/execution/", "in-process://"])
def test_nobody_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", address)
    assert not triggerer.is_alive()


@pytest.mark.parametrize("kind", [ApoloRunOperator, NeuroRunOperator])
@pytest.mark.parametrize(
    ("options", "status", "defers"),
    [
        ({}, "healthy", True),
        ({}, "unhealthy", False),
        ({"deferrable": False}, "healthy", False),
        ({"deferrable": True}, "unhealthy", True),
    ],
)
def test_a_detached_job_is_left_to_a_triggerer_that_is_there(
    kind: type[ApoloRunOperator],
    options: dict[str, Any],
    status: str,
    defers: bool,
    health: Health,
    platform: Platform,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airfreight.operators.apolo._BRIEF_WAIT_SECONDS", 0.1)
    health.body = {"triggerer": {"status": status}}
    if defers:
        with pytest.raises(TaskDeferred):
            task.run(kind, job_command=SLOW_START, **options)
    else:
        assert task.run(kind, job_command=SLOW_START, **options)["status"] == "running"


def test_an_attached_job_is_not_unless_it_is_wished(
    health: Health, platform: Platform, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airfreight.operators.apolo._BRIEF_WAIT_SECONDS", 0.1)
    assert task.run(job_command="sleep 1", job_detach=False)["status"] == "succeeded"
    assert not health.paths


def test_a_short_start_asks_nobody(health: Health, platform: Platform, task: Task) -> None:
    assert task.run(job_command="sleep 3600")["status"] == "running"
    assert not health.paths
