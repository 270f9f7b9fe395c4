"""Goal: what sensors and the trigger make of a job's statuses. Method: a double of the platform, in this process."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred

from airfreight._remote import ApoloClient
from airfreight.apolo.job import JobFailed
from airfreight.apolo.types import JobStatus
from airfreight.errors import DeniedError
from airfreight.hooks.apolo import ApoloHook
from airfreight.sensors.apolo import ApoloJobSensor, ApoloJobStatusSensor
from airfreight.sensors.neuro import NeuroJobSensor, NeuroJobStatusSensor
from airfreight.triggers.apolo import ApoloJobTrigger

if TYPE_CHECKING:
    from apolo_home import Platform

RUNS_ON = [{"status": "running"}, {"sleep": 3600}]


def job(client: ApoloClient, *steps: dict[str, Any]) -> str:
    spec = {"image": "ubuntu", "command": f"plan {json.dumps(steps)}", "preset": "cpu-small"}
    return str(client.create(spec)["id"])


def until(client: ApoloClient, job_id: str, status: str) -> None:
    deadline = time.monotonic() + 30
    while client.job(job_id)["status"] != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def context() -> Any:
    instance = SimpleNamespace(
        dag_id="d", run_id="r", task_id="wait", map_index=-1, try_number=1, start_date=datetime.now(UTC)
    )
    return {"ti": instance}


@pytest.mark.parametrize("kind", [ApoloJobStatusSensor, NeuroJobStatusSensor])
def test_a_status_is_waited_for(kind: type[ApoloJobStatusSensor], client: ApoloClient, context: Any) -> None:
    running = job(client, *RUNS_ON)
    until(client, running, "running")
    assert kind(task_id="wait", job_id=f" {running} ", job_statuses=["running"]).poke(context)
    assert kind(task_id="wait", job_id={"id": running}, job_statuses=(JobStatus.RUNNING,)).poke(context)
    assert not kind(task_id="wait", job_id=running).poke(context)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_by_default_both_ends_will_do(status: str, client: ApoloClient, context: Any) -> None:
    ended = job(client, {"status": status})
    until(client, ended, status)
    assert ApoloJobStatusSensor(task_id="wait", job_id=ended).poke(context)


def test_a_cancelled_job_is_not_waited_for_in_vain(client: ApoloClient, context: Any) -> None:
    ended = job(client, *RUNS_ON)
    client.kill(ended)
    with pytest.raises(JobFailed, match="was cancelled"):
        ApoloJobStatusSensor(task_id="wait", job_id=ended).poke(context)
    skipping = ApoloJobStatusSensor(task_id="wait", job_id=ended, soft_fail=True, poke_interval=0.1)
    with pytest.raises(AirflowSkipException):
        skipping.execute(context)


def test_a_job_that_is_not_there_is_an_error(client: ApoloClient, context: Any) -> None:
    with pytest.raises(LookupError, match="there is no job `nobody`"):
        ApoloJobStatusSensor(task_id="wait", job_id="nobody").poke(context)


@pytest.mark.parametrize("kind", [ApoloJobSensor, NeuroJobSensor])
def test_a_function_says_when_it_is_enough(kind: type[ApoloJobSensor], client: ApoloClient, context: Any) -> None:
    seen = []

    def has_reason(found: Any) -> bool:
        seen.append((found.status, found.history.status, found.name, found.container.image))
        return bool(found.history.reason == "Warm")

    running = job(client, {"status": "running"}, {"sleep": 0.5}, {"status": "running", "reason": "Warm"}, {"sleep": 99})
    kind(task_id="wait", job_id=running, job_status_cb=has_reason, poke_interval=0.1).execute(context)
    assert seen[-1] == (JobStatus.RUNNING, "running", None, "ubuntu:latest")


def test_a_deferred_sensor_looks_whenever_the_status_changes(
    client: ApoloClient, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = job(
        client, {"sleep": 0.5}, {"status": "running"}, {"sleep": 0.5}, {"status": "succeeded", "exit_code": 0}
    )
    sensor = ApoloJobStatusSensor(
        task_id="wait", job_id=waiting, job_statuses=["succeeded"], deferrable=True, poll_interval=0.05, timeout=100
    )
    step: Any = lambda: sensor.execute(context)  # noqa: E731
    deferred, deadline = 0, None
    while step is not None:
        try:
            step()
            step = None
        except TaskDeferred as asked:
            deferred += 1
            path, arguments = asked.trigger.serialize()
            assert path == "airfreight.triggers.apolo.ApoloJobTrigger"
            assert deadline in (None, arguments["deadline"])
            deadline = arguments["deadline"]
            event = asyncio.run(fire(arguments, monkeypatch))
            step = lambda event=event: sensor.execute_complete(context, event)  # noqa: E731
    assert deferred == 2


def test_a_deferred_sensors_time_ends(client: ApoloClient, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    running = job(client, *RUNS_ON)
    arguments = {"job_id": running, "until": "pending", "deadline": time.time() + 1, "on_kill": "leave"}
    until(client, running, "running")
    event = asyncio.run(fire({**arguments, "until": "running"}, monkeypatch))
    assert client.job(running)["status"] == "running"
    with pytest.raises(AirflowSensorTimeout, match="was not as wished within 60 s"):
        ApoloJobStatusSensor(task_id="wait", job_id=running, timeout=60).execute_complete(context, event)
    with pytest.raises(AirflowSkipException):
        ApoloJobStatusSensor(task_id="wait", job_id=running, soft_fail=True).execute_complete(context, event)


def test_an_error_of_the_trigger_is_raised_in_the_task(
    platform: Platform, client: ApoloClient, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = job(client, *RUNS_ON)
    platform.fault("GET", f"/jobs/{running}", kind="status", status=401, times=None)
    event = asyncio.run(fire({"job_id": running}, monkeypatch))
    assert platform.token not in json.dumps(event)
    sensor = ApoloJobStatusSensor(task_id="wait", job_id=running)
    with pytest.raises(AirflowFailException) as failed:
        sensor.execute_complete(context, event)
    assert isinstance(failed.value.__cause__, DeniedError)


def test_a_deadline_cancels_the_job_of_an_operator(client: ApoloClient, monkeypatch: pytest.MonkeyPatch) -> None:
    running = job(client, *RUNS_ON)
    arguments = {"job_id": running, "deadline": time.time() + 0.5, "on_kill": "stop", "poll_interval": 0.1}
    event = asyncio.run(fire(arguments, monkeypatch))
    assert event["status"] == "TIMEOUT"
    assert client.job(running)["status"] == "cancelled"


def test_a_hundred_triggers_do_not_hold_up_the_loop(client: ApoloClient, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [{"status": "running"}, {"log": "\n".join(map(str, range(20)))}, {"sleep": 3}, {"status": "succeeded"}]
    jobs = [job(client, *steps) for _ in range(100)]

    async def all_at_once() -> list[dict[str, Any]]:
        lags: list[float] = []

        async def measure() -> None:
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                lags.append(time.monotonic() - before - 0.01)

        measuring = asyncio.create_task(measure())
        events = await asyncio.gather(
            *(fire({"job_id": each, "fetch_logs": True, "poll_interval": 0.5}, monkeypatch) for each in jobs)
        )
        measuring.cancel()
        print(f"the longest lag of the event loop: {max(lags) * 1000:.0f} ms, of {len(lags)}")
        return events

    events = asyncio.run(all_at_once())
    assert [event["status"] for event in events] == ["succeeded"] * 100


async def fire(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The event of a trigger, made as Airflow makes it."""
    connection = ApoloHook().connection

    async def acreate(_: Any = None) -> Any:
        return SimpleNamespace(connection=connection)

    monkeypatch.setattr(ApoloHook, "acreate", acreate)
    _, serialised = ApoloJobTrigger(**arguments).serialize()
    trigger = ApoloJobTrigger(**json.loads(json.dumps(serialised)))
    events = [event async for event in trigger.run()]
    payload: dict[str, Any] = json.loads(json.dumps(events[0].payload))
    assert len(events) == 1
    await trigger.cleanup()
    return payload
