"""
Goal: a checkpoint that is left to the host's agent is made, once, whatever dies, or somebody is told.

Method: a real store, a real agent and a real S3 server; agents and tasks are killed, and the bucket fails on demand.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from airfreight import rows
from airfreight._remote import UploadQueue
from airfreight.checkpoint import copies
from airfreight.checkpoint.reuse import skip_work
from airfreight.errors import CorruptError, InvalidError, UnavailableError
from bucket_home import AgentProcess
from checkpoint.test_checkpoint_rows import lose_store, origin, running, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airfreight.process import Process
    from bucket_home import FaultProxy, S3Server

LARGE = np.arange(3_000_000)
STORED = 'airfreight_checkpoint_uploads_total{outcome="stored"}'
FAILED = 'airfreight_checkpoint_uploads_total{outcome="failed"}'


def queued(process: Process) -> list[str]:
    return UploadQueue(process.store_options).names()


@pytest.fixture
def where(aws: dict[str, str], bucket_url: str) -> str:
    return f"async:{bucket_url}/some/prefix"


@pytest.fixture
def agent(memory: Path, tmp_path: Path, s3: S3Server) -> Iterator[AgentProcess]:
    """An agent of the store, not yet running, with credentials of its own; it finds the server through no proxy."""
    env = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name and "AWS" not in name}
    agent = AgentProcess(memory / "store", tmp_path / "agent.log", env | s3.environment)
    yield agent
    agent.kill()


def through(agent: AgentProcess, proxy: FaultProxy) -> AgentProcess:
    agent._env["AWS_ENDPOINT_URL"] = proxy.endpoint
    return agent


def test_the_agent_makes_a_checkpoint_that_the_row_names(
    configure: Callable[..., Process], agent: AgentProcess, where: str, said: list[str]
) -> None:
    process = configure()
    row = write(LARGE, running(where))
    assert row["bucket"]["later"] == row["id"]
    assert queued(process) == [row["id"]]
    assert "no `airfreight agent` looks after" in "\n".join(said)
    with agent:
        agent.until(lambda: queued(process) == [], "uploaded")
        agent.until(lambda: agent.metric(STORED) == 1, "counted")
        assert agent.metric("airfreight_checkpoints_waiting") == 0
        assert "Uploaded" in agent.get("/")
        again = write(LARGE + 1, running(where))
        agent.until(lambda: queued(process) == [], "uploaded while it runs")
    place = copies.open_place(process, where.removeprefix("async:"))
    assert place.bucket.size(row["bucket"]["key"]) == row["bucket"]["nbytes"]
    for each, value in ((row, LARGE), (again, LARGE + 1)):
        lose_store(process)
        assert np.array_equal(rows.read(each), value)


def test_who_comes_too_early_is_told(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    row = write(LARGE, running(where))
    lose_store(process)
    with pytest.raises(
        UnavailableError, match=r"its checkpoint is not there yet: the agent of host .* was to"
    ) as raised:
        rows.read(row)
    assert "clear task train" in raised.value.hint


def test_the_queue_holds_no_secret(configure: Callable[..., Process], memory: Path, where: str) -> None:
    process = configure()
    row = write(LARGE, running(where))
    entry = memory / "store" / "uploads" / row["id"]
    assert entry.stat().st_mode & 0o777 == 0o600
    assert "secret" not in entry.read_text()
    assert json.loads(entry.read_text())["conn"] is None
    assert queued(process) == [row["id"]]


def test_a_killed_agent_sends_nothing_twice_and_loses_nothing(
    configure: Callable[..., Process], agent: AgentProcess, where: str, proxy: FaultProxy
) -> None:
    """The copy is there, what the task returned last isn't yet: the next agent goes on from there."""
    process = configure()
    last_step = proxy.on("throttle", "PUT", "newest")
    row = write(LARGE, running(where))
    with through(agent, proxy):
        agent.until(lambda: last_step.hits > 0, "it has come to the last step")
        agent.kill()
        assert queued(process) == [row["id"]]
        proxy.faults.clear()
        agent.start()
        agent.until(lambda: queued(process) == [], "uploaded by the next one")
    sent_after = [text for text in agent.said().splitlines() if "checkpointed" in text]
    assert len(sent_after) == 1
    assert "sent=0" in sent_after[0], sent_after
    lose_store(process)
    assert np.array_equal(rows.read(row), LARGE)


def test_agents_that_are_killed_again_and_again_get_everything_done(
    configure: Callable[..., Process], agent: AgentProcess, where: str
) -> None:
    process = configure()
    values = [np.arange(300_000) + number for number in range(8)]
    written = [write(value, running(where), f"key{number}") for number, value in enumerate(values)]
    lives = 0
    while queued(process):
        assert lives < 60, agent.said()[-3000:]
        agent.start()
        # Somewhere between its first look and its last upload; in the end it gets on.
        time.sleep(0.03 * lives)
        agent.kill()
        lives += 1
    lose_store(process)
    for row, value in zip(written, values, strict=True):
        assert np.array_equal(rows.read(row), value)
    place = copies.open_place(process, where.removeprefix("async:"))
    objects = [entry for entry in place.bucket.list() if not entry["key"].endswith("/newest")]
    assert len(objects) == len(values)


def parts_left(s3: S3Server, where: str) -> int:
    """How many uploads in parts have not ended: what they hold is paid for, and nobody sees it."""
    bucket = where.removeprefix("async:s3://").partition("/")[0]
    with urllib.request.urlopen(f"{s3.endpoint}/{bucket}?uploads") as answer:
        return answer.read().decode().count("<Upload>")


def kill_in_the_middle(agent: AgentProcess, proxy: FaultProxy) -> None:
    """Once the proxy has refused a part, others of which are there."""
    (refused,) = proxy.faults
    agent.until(lambda: refused.hits > 0, "it is in the middle")
    agent.kill()


def test_parts_that_a_killed_agent_has_sent_are_removed_by_the_next(
    configure: Callable[..., Process], agent: AgentProcess, where: str, proxy: FaultProxy, s3: S3Server
) -> None:
    process = configure()
    proxy.on("throttle", "PUT", "partNumber=2")
    row = write(LARGE, running(where))
    with through(agent, proxy):
        kill_in_the_middle(agent, proxy)
        assert parts_left(s3, where) == 1
        proxy.faults.clear()
        agent.start()
        agent.until(lambda: queued(process) == [], "uploaded by the next one")
    assert parts_left(s3, where) == 0
    assert not list(Path(process.store.path, "uploads").glob("*.begun"))
    lose_store(process)
    assert np.array_equal(rows.read(row), LARGE)


def test_parts_of_an_upload_that_was_withdrawn_meanwhile_are_removed_too(
    configure: Callable[..., Process], agent: AgentProcess, where: str, proxy: FaultProxy, s3: S3Server
) -> None:
    process = configure()
    proxy.on("throttle", "PUT", "partNumber=2")
    row = write(LARGE, running(where))
    with through(agent, proxy):
        kill_in_the_middle(agent, proxy)
        rows.purge(row, origin(running(where)).where)
        assert (queued(process), parts_left(s3, where)) == ([], 1)
        proxy.faults.clear()
        agent.start()
        agent.until(lambda: parts_left(s3, where) == 0, "the parts are gone")
    place = copies.open_place(process, where.removeprefix("async:"))
    assert list(place.bucket.list()) == []


KILLED = """
import os, sys
import numpy as np
sys.path[:0] = {path!r}
from airfreight import rows
from checkpoint.test_checkpoint_rows import origin, running
for number in range(1000):
    row = rows.write(np.arange(50_000 + number), origin(running({where!r}), f"key{{number}}-{{os.getpid()}}"))
    print("wrote", row["id"], flush=True)
"""


def test_a_killed_task_leaves_whole_uploads(configure: Callable[..., Process], agent: AgentProcess, where: str) -> None:
    process = configure()
    promised: list[str] = []
    for writes in (1, 4):
        command = [sys.executable, "-c", KILLED.format(path=sys.path, where=where)]
        task = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert task.stdout is not None
        # Between log lines; the last line may be cut.
        names = (line.split()[1] for line in task.stdout if line.startswith("wrote ") and line.endswith("\n"))
        promised += [next(names) for _ in range(writes)]
        task.send_signal(signal.SIGKILL)
        promised += names
        task.wait()
    assert set(promised) <= set(queued(process)), "what was promised before the kill is in the queue"
    with agent:
        agent.until(lambda: queued(process) == [], "uploaded")
    place = copies.open_place(process, where.removeprefix("async:"))
    there = {entry["key"].rpartition("/")[2] for entry in place.bucket.list()}
    assert set(promised) <= there


def test_a_bucket_that_refuses_is_asked_again_and_the_page_says_why(
    configure: Callable[..., Process], agent: AgentProcess, where: str, proxy: FaultProxy
) -> None:
    process = configure()
    refusal = proxy.on("refuse", "PUT")
    row = write(LARGE, running(where))
    with through(agent, proxy):
        agent.until(lambda: agent.metric(FAILED) >= 2, "tried twice")
        assert agent.metric("airfreight_checkpoints_waiting") == 1
        assert agent.metric("airfreight_checkpoints_waiting_bytes") == row["bucket"]["nbytes"]
        assert "AccessDenied" in agent.get("/")
        assert "test-secret" not in agent.said() + agent.get("/")
        proxy.faults.remove(refusal)
        agent.until(lambda: queued(process) == [], "uploaded at last")


def test_clearing_the_task_takes_the_upload_back(
    configure: Callable[..., Process], agent: AgentProcess, where: str
) -> None:
    process = configure()
    row = write(LARGE, running(where))
    rows.purge(row, origin(running(where)).where)
    assert queued(process) == []
    kept = write(LARGE + 1, running(where))
    with agent:
        agent.until(lambda: queued(process) == [], "uploaded")
    place = copies.open_place(process, where.removeprefix("async:"))
    keys = {entry["key"].rpartition("/")[2] for entry in place.bucket.list()}
    assert keys == {kept["id"], "newest"}


def test_a_value_that_is_gone_before_its_upload_is_told_once(
    configure: Callable[..., Process], agent: AgentProcess, where: str
) -> None:
    process = configure()
    write(LARGE, running(where))
    lose_store(process)
    with agent:
        agent.until(lambda: agent.metric('airfreight_checkpoint_uploads_total{outcome="lost"}') == 1, "given up")
        assert queued(process) == []
    assert "there will be no checkpoint" in agent.said()


def test_members_of_a_dict_are_sent_once(
    configure: Callable[..., Process], agent: AgentProcess, where: str, proxy: FaultProxy
) -> None:
    process = configure()
    instance = running(where, multiple_outputs=True)
    process.begin(instance)
    value = {"a": LARGE, "b": LARGE * 2, "small": 3}
    for key, item in value.items():
        write(item, instance, key)
    whole = write(value, instance)
    with through(agent, proxy):
        agent.until(lambda: queued(process) == [], "uploaded")
    sent = [text for text in agent.said().splitlines() if "checkpointed" in text]
    assert sum("sent=0" in text for text in sent) == 1, sent
    lose_store(process)
    read = rows.read(whole)
    assert all(np.array_equal(read[key], value[key]) for key in value)


def test_a_checkpoint_that_the_agent_has_made_is_reused_and_replaced(
    configure: Callable[..., Process], agent: AgentProcess, where: str
) -> None:
    process = configure()
    with agent:
        row = write(LARGE, running(where, reuse=True))
        agent.until(lambda: queued(process) == [], "uploaded")
        instance = running(where, reuse=True)
        skip_work(instance)
        assert instance.task.execute({}).row["id"] == row["id"]
        again = write(LARGE + 1, running(where, reuse=True))
        agent.until(lambda: queued(process) == [], "uploaded, too")
    place = copies.open_place(process, where.removeprefix("async:"))
    keys = {entry["key"].rpartition("/")[2] for entry in place.bucket.list()}
    assert keys == {again["id"], "newest"}


def test_a_connection_is_asked_for_and_written_nowhere(
    configure: Callable[..., Process],
    agent: AgentProcess,
    s3: S3Server,
    bucket_url: str,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = {
        "conn_type": "aws",
        "login": "test",
        "password": "hunter2",
        "extra": {"region_name": "us-east-1", "endpoint_url": s3.endpoint},
    }
    for env in (os.environ, agent._env):
        monkeypatch.setitem(env, "AIRFLOW_CONN_LAKE", json.dumps(connection))
    agent._env.update({name: os.environ[name] for name in ("AIRFLOW_HOME",)})
    agent._env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    agent._command += ["--access-command", f"{sys.executable} -m airfreight.checkpoint.access"]
    process = configure()
    row = write(LARGE, running(f"async:lake@{bucket_url}"))
    assert row["bucket"]["conn"] == "lake"
    assert "hunter2" not in (memory / "store" / "uploads" / row["id"]).read_text()
    with agent:
        agent.until(lambda: queued(process) == [], "uploaded")
    assert "hunter2" not in agent.said()


def test_a_pod_of_its_own_has_no_agent_that_outlives_it(
    configure: Callable[..., Process], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
    configure(secret_key="x" * 40)
    with pytest.raises(InvalidError, match="this task's store ends with its pod"):
        write(LARGE, running(where))


def test_what_is_no_upload_is_refused(configure: Callable[..., Process]) -> None:
    process = configure()
    with pytest.raises(CorruptError, match="cannot use the queued upload"):
        UploadQueue(process.store_options).add("0" * 32, "{}")
