"""`airfreight store gc` asks a real Airflow; the store is one of its own, so that no other test loses objects."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_home import AirflowHome

DEPLOYMENT = "0f1e2d3c"
BINARY = Path(sysconfig.get_path("scripts")) / "airfreight"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"), spill_path=str(tmp_path / "spill"))


def put(store: Store, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    with store.create() as writer:
        writer.write(b"a value")
        owner = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        owner["deployment"] = DEPLOYMENT
        return writer.seal(json.dumps({"type": "bytes", "owner": owner}))


def gc(store: Store, airflow: AirflowHome, *flags: str) -> dict[str, Any]:
    done = subprocess.run(
        [BINARY, "store", "gc", "--json", "--store", store.path, "--api-url", airflow.url, *flags],
        env={
            **os.environ,
            "AIRFREIGHT_API_TOKEN": airflow.token,
            "AIRFREIGHT_DEPLOYMENT": DEPLOYMENT,
            "NO_PROXY": "*",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_gc_keeps_what_airflow_needs_and_removes_the_rest(airflow: AirflowHome, store: Store) -> None:
    ended, deleted = airflow.run("collected"), airflow.run("collected")
    airflow.request("DELETE", f"/dags/collected/dagRuns/{deleted}")
    needed = [put(store, "collected", ended, "plain"), put(store, "collected", ended, "mapped", 2)]
    gone = [
        put(store, "collected", ended, "mapped", 3),
        put(store, "collected", ended, "renamed"),
        put(store, "collected", deleted, "plain"),
    ]
    unknown = put(store, "a_dag_of_another_airflow", ended, "plain")

    report = gc(store, airflow)
    assert report["kept"]["recent"] == len(gone), "what was just written stays"
    assert len(store.names()) == 6

    report = gc(store, airflow, "--grace-minutes", "0")
    assert sorted(store.names()) == sorted([*needed, unknown])
    assert (report["gone"]["objects"], report["kept"]["needed"], report["kept"]["unknown"]) == (3, 2, 1)

    report = gc(store, airflow, "--retention-hours", "0")
    assert store.names() == [unknown]
    assert report["ended"]["objects"] == 2


def test_the_agent_collects_by_itself(airflow: AirflowHome, store: Store, tmp_path: Path) -> None:
    ended = airflow.run("collected")
    needed, gone = put(store, "collected", ended, "plain"), put(store, "collected", ended, "renamed")
    token = tmp_path / "token"
    token.write_text("not yet")
    log = tmp_path / "agent.log"
    command = [
        BINARY, "agent", "--store", store.path, "--listen", "127.0.0.1:0", "--gc-every", "1s", "--gc-grace", "0",
        "--api-token-file", str(token),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "AIRFLOW__AIRFREIGHT__API_URL": airflow.url,
        "AIRFREIGHT_DEPLOYMENT": DEPLOYMENT,
        "NO_PROXY": "*",
    }
    with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as agent:
        try:
            until(lambda: "could not collect all garbage" in log.read_text(), log)
            assert store.contains(gone), "without a token that Airflow takes, nothing is sure"
            # Written again by whoever looks after it.
            token.write_text(airflow.token)
            until(lambda: not store.contains(gone), log)
        finally:
            agent.terminate()
    assert agent.returncode == 0
    assert store.contains(needed)
    assert airflow.token not in log.read_text()


def test_an_airflow_that_never_answers_does_not_keep_the_agent(store: Store, tmp_path: Path) -> None:
    kept = put(store, "collected", "run", "plain")
    log = tmp_path / "agent.log"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        command = [BINARY, "agent", "--store", store.path, "--listen", "127.0.0.1:0", "--gc-every", "1s"]
        environment = {
            **os.environ,
            "AIRFLOW__AIRFREIGHT__API_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AIRFREIGHT_DEPLOYMENT": DEPLOYMENT,
            "NO_PROXY": "*",
        }
        with log.open("w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as agent:
            try:
                asked, _ = silent.accept()
            finally:
                agent.terminate()
            # It would go on asking for minutes.
            assert agent.wait(30) == 0, log.read_text()
            asked.close()
    assert store.contains(kept)


def until(is_so: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
