"""
Goal: what the trigger does with its job, its log and its end.

Method: the trigger on an event loop of its own, a fault server instead of Ray; Airflow's side of it is in
``test_ray_airflow.py``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers.base import TriggerEvent

from airfreight.operators.ray import SubmitRayJob
from airfreight.ray import supervisor
from airfreight.ray.supervisor import Silence, Waiting
from airfreight.triggers.ray import RayJobTrigger
from ray_home.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS_ON = [[0, "RUNNING"]]
ENDS = [[0, "RUNNING"], [300, "SUCCEEDED"]]
LOGGER = "airfreight.triggers.ray.RayJobTrigger"


class Airflow:
    """What the triggerer's supervisor knows, for as long as a test lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: str | None = "deferred"
        self.silent = False
        self.saved: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.ping_seconds = 0.0
        self.save_seconds = 0.0
        monkeypatch.setattr(supervisor, "_ask", self.ask)

    async def ask(self, message: Any, seconds: float = 0.0) -> Any:
        if self.silent:
            raise Silence
        self.asked.append(type(message).__name__)
        match type(message).__name__:
            case "GetTaskStates":
                return _Answer(task_states={"r": {"train": self.state}})
            case "GetXCom":
                return _Answer(value=self.saved[-1] if self.saved else None)
            case "SetXCom":
                await asyncio.sleep(self.save_seconds)
                self.saved.append(message.value)
            case "MaskSecret":
                await asyncio.sleep(self.ping_seconds)
        return None


class _Answer:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    return Airflow(monkeypatch)


def trigger(job_id: str, **options: Any) -> RayJobTrigger:
    """As Airflow makes it: from what it has serialised, and told of its task instance."""
    path, arguments = RayJobTrigger(job_id, **options).serialize()
    assert path == "airfreight.triggers.ray.RayJobTrigger"
    made = RayJobTrigger(**json.loads(json.dumps(arguments)))
    made.trigger_id = 1
    made._task_instance = Waiting("flights", "r", "train", -1, 1)
    return made


async def event_of(made: RayJobTrigger) -> dict[str, Any]:
    events = [event async for event in made.run()]
    assert len(events) == 1
    assert isinstance(events[0], TriggerEvent)
    payload: dict[str, Any] = json.loads(json.dumps(events[0].payload))
    await made.cleanup()
    return payload


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The job's lines in the log, which all begin with `line`."""
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("line ")]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's own logger goes past pytest."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(RayJobTrigger, "log", logging.getLogger(LOGGER))


def test_the_log_is_copied_and_the_end_told(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [f"line {number}" for number in range(1000)]
    server.add_job("a", states=ENDS, log="\n".join(expected) + "\n")
    event = asyncio.run(event_of(trigger("a")))

    assert event["status"] == "SUCCEEDED"
    assert event["job_id"] == "a"
    assert event["message"] == "Job a completed with status SUCCEEDED"
    assert event["job"]["end_time"] > event["job"]["start_time"]
    assert lines(caplog) == expected


def test_an_event_holds_no_environment(server: FaultServer, airflow: Airflow) -> None:
    server.add_job("a", states=ENDS, runtime_env={"env_vars": {"KEY": "s3cr3t"}}, metadata={"x": "s3cr3t"})
    assert "s3cr3t" not in json.dumps(asyncio.run(event_of(trigger("a"))))


def test_no_log_where_none_is_wanted(server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture) -> None:
    server.add_job("a", states=ENDS, log="line 1\n")
    asyncio.run(event_of(trigger("a", fetch_logs=False)))
    assert lines(caplog) == []
    assert airflow.saved == []


def test_a_failure_is_told_with_rays_words(server: FaultServer, airflow: Airflow) -> None:
    server.add_job("a", states=[[0, "FAILED"]], exit_code=3, error_type="JOB_ENTRYPOINT_COMMAND_ERROR", message="why")
    job = asyncio.run(event_of(trigger("a")))["job"]
    assert (job["status"], job["driver_exit_code"], job["message"]) == ("FAILED", 3, "why")
    assert job["error_type"] == "JOB_ENTRYPOINT_COMMAND_ERROR"


def test_a_job_that_ray_does_not_know(server: FaultServer, airflow: Airflow) -> None:
    event = asyncio.run(event_of(trigger("nobody")))
    assert event["status"] == "GONE"
    assert "Ray job nobody is lost" in event["message"]


def test_a_silent_cluster_is_told_after_its_patience(
    server: FaultServer, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"address": "http://127.0.0.1:1", "patience": 0.5}
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", json.dumps({"conn_type": "ray", "extra": extra}))
    event = asyncio.run(event_of(trigger("a")))
    assert (event["status"], event["kind"]) == ("EXCEPTION", "Unavailable")


def test_a_restarted_trigger_goes_on_where_the_last_one_was(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    server.add_job("a", states=RUNS_ON, log="line 1\nline 2\n")

    async def restarted() -> dict[str, Any]:
        first = trigger("a")
        running = asyncio.create_task(event_of(first))
        await until(lambda: "line 2" in lines(caplog))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await first.cleanup()
        server.control("POST", "/jobs/a", {"append": "line 3\n", "status": "SUCCEEDED"})
        return await event_of(trigger("a"))

    assert asyncio.run(restarted())["status"] == "SUCCEEDED"
    assert lines(caplog) == ["line 1", "line 2", "line 3"]
    assert [saved["complete"] for saved in airflow.saved] == [False, True, False, True]
    assert "may stand above" not in caplog.text
    assert server.job("a")["status"] == "SUCCEEDED"


def test_what_may_be_repeated_after_a_kill_is_marked(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    server.add_job("a", states=RUNS_ON, log="line 1\n")

    async def killed() -> None:
        first = trigger("a")
        running = asyncio.create_task(event_of(first))
        await until(lambda: "line 1" in lines(caplog))
        first._save_at = 0.0
        await until(lambda: len(airflow.saved) == 2)
        server.control("POST", "/jobs/a", {"append": "line 2\n"})
        await until(lambda: "line 2" in lines(caplog))
        running.cancel()  # and no cleanup
        server.control("POST", "/jobs/a", {"append": "line 3\n", "status": "SUCCEEDED"})
        await event_of(trigger("a"))

    asyncio.run(killed())
    assert airflow.saved[0]["complete"] is False
    said = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    mark = next(number for number, line in enumerate(said) if "may stand above already" in line)
    assert said[:mark].count("line 1") == 1
    assert [line for line in said[mark:] if line.startswith("line")] == ["line 2", "line 3"]


def test_another_attempts_place_in_the_log_is_not_taken(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    server.add_job("a", states=ENDS, log="line 1\n")
    asyncio.run(event_of(trigger("a")))
    caplog.clear()
    later = trigger("a")
    later._task_instance = Waiting("flights", "r", "train", -1, 2)
    asyncio.run(event_of(later))
    assert lines(caplog) == ["line 1"]


def cancelled_when(server: FaultServer, condition: Callable[[], bool], then: Callable[[], None]) -> None:
    """A trigger is cancelled as in a restart, and another one goes on to the end of the job ``a``."""

    async def cancelled() -> None:
        first = trigger("a")
        running = asyncio.create_task(event_of(first))
        await until(condition)
        then()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await first.cleanup()
        server.control("POST", "/jobs/a", {"status": "SUCCEEDED"})
        await event_of(trigger("a"))

    asyncio.run(cancelled())


def test_cancelled_before_its_first_lines_it_copies_them(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    expected = [f"line {number}" for number in range(10)]
    server.add_job("a", states=RUNS_ON, log="\n".join(expected) + "\n")
    airflow.save_seconds = 30.0

    def then() -> None:
        assert lines(caplog) == []
        airflow.save_seconds = 0.0

    cancelled_when(server, lambda: "SetXCom" in airflow.asked, then)
    assert lines(caplog) == expected


def test_cancelled_in_the_middle_of_lines_all_of_them_are_copied(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airfreight.triggers.job._LINES_AT_ONCE", 1)
    expected = [f"line {number}" for number in range(200)]
    server.add_job("a", states=RUNS_ON, log="\n".join(expected) + "\n")

    cancelled_when(server, lambda: len(lines(caplog)) > 3, lambda: None)
    assert lines(caplog) == expected


def test_a_log_that_is_too_much_is_left_to_the_worker(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airfreight.triggers.job._BURST_SECONDS", 0.2)
    expected = [f"line {number} {'x' * 200}" for number in range(20_000)]
    server.add_job("a", states=[[0, "RUNNING"], [500, "SUCCEEDED"]], log="\n".join(expected) + "\n")
    airflow.ping_seconds = 0.01
    event = asyncio.run(event_of(trigger("a")))

    copied = lines(caplog)
    assert 0 < len(copied) < len(expected)
    operator = SubmitRayJob(task_id="train", entrypoint="x")
    monkeypatch.setattr(SubmitRayJob, "log", logging.getLogger(LOGGER))
    assert operator.execute_complete({"ti": SimpleNamespace(xcom_push=lambda **_: None)}, event) == "a"  # type: ignore[typeddict-item]
    assert lines(caplog) == expected
    assert "may stand above" not in caplog.text


def test_lines_are_in_the_log_before_they_count_as_copied(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    server.add_job("a", states=ENDS, log="".join(f"line {number}\n" for number in range(100)))
    asyncio.run(event_of(trigger("a")))
    # At most 4 KiB, with what Airflow adds to each line, between two of them.
    assert airflow.asked.count("MaskSecret") > 100 * 400 // 4096
    assert airflow.asked[-2:] == ["MaskSecret", "SetXCom"] or airflow.asked[-1] == "SetXCom"
    first = airflow.asked.index("SetXCom")
    assert "MaskSecret" in airflow.asked[first:]


@pytest.mark.parametrize(
    ("state", "silent", "options", "stopped"),
    [
        ("failed", False, {}, True),
        ("success", False, {}, True),
        (None, False, {}, True),
        ("deferred", False, {}, False),  # another triggerer has taken over
        ("deferred", True, {}, True),
        ("failed", False, {"on_kill": "leave"}, False),
    ],
)
def test_a_users_kill_stops_the_job(
    state: str | None, silent: bool, options: dict[str, str], stopped: bool, server: FaultServer, airflow: Airflow
) -> None:
    server.add_job("a", states=RUNS_ON)
    airflow.state, airflow.silent = state, silent
    asyncio.run(_killed(trigger("a", **options), told=True))
    assert (server.job("a")["status"] == "STOPPED") is stopped


@pytest.mark.parametrize(
    ("state", "silent", "stopped"),
    [("failed", False, True), (None, False, True), ("deferred", False, False), ("failed", True, False)],
)
def test_where_nobody_tells_of_kills_airflow_is_asked(
    state: str | None,
    silent: bool,
    stopped: bool,
    server: FaultServer,
    airflow: Airflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airfreight.ray.versions.tells_kills", lambda: False)
    server.add_job("a", states=RUNS_ON)
    airflow.state, airflow.silent = state, silent
    asyncio.run(_killed(trigger("a"), told=False))
    assert (server.job("a")["status"] == "STOPPED") is stopped


async def _killed(made: RayJobTrigger, *, told: bool) -> None:
    running = asyncio.create_task(event_of(made))
    await until(lambda: made._watch is not None)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    if told:
        await made.on_kill()
    await made.cleanup()


def test_cleanup_leaves_the_job_where_kills_are_told(server: FaultServer, airflow: Airflow) -> None:
    server.add_job("a", states=RUNS_ON)
    airflow.state = "failed"
    asyncio.run(_killed(trigger("a"), told=False))
    assert server.job("a")["status"] == "RUNNING"


@pytest.mark.parametrize(("options", "status"), [({}, "STOPPED"), ({"on_kill": "leave"}, "RUNNING")])
def test_a_job_whose_time_is_over(options: dict[str, str], status: str, server: FaultServer, airflow: Airflow) -> None:
    server.add_job("a", states=RUNS_ON)
    event = asyncio.run(event_of(trigger("a", deadline=time.time() + 0.3, **options)))
    assert event["status"] == "TIMEOUT"
    assert server.job("a")["status"] == status


def test_the_last_lines_of_a_job_that_is_stopped_are_copied(
    server: FaultServer, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    server.add_job("a", states=RUNS_ON, log_end="line of farewell\n", stop_ms=300)
    asyncio.run(event_of(trigger("a", deadline=time.time() + 0.3)))
    assert lines(caplog) == ["line of farewell"]


def test_interrupting_a_test_run_stops_the_job(server: FaultServer) -> None:
    server.add_job("a", states=RUNS_ON)
    made = RayJobTrigger("a")  # as `dag.test()` runs it: nobody tells it of its task instance

    async def interrupted() -> None:
        running = asyncio.create_task(event_of(made))
        await until(lambda: made._watch is not None)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(interrupted())
    assert server.job("a")["status"] == "STOPPED"


def test_many_triggers_leave_the_loop_alone(server: FaultServer, airflow: Airflow) -> None:
    count = 100
    server.control("POST", "", {"path": "/api/jobs", "delay_ms": 300})
    server.control(
        "POST",
        "/jobs",
        {"count": count, "prefix": "many-", "script": {"states": [[0, "RUNNING"], [1500, "SUCCEEDED"]]}},
    )
    names = [job["submission_id"] for job in server.jobs()]
    beats = 0

    async def all_of_them() -> list[dict[str, Any]]:
        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        events = await asyncio.gather(*(event_of(trigger(name)) for name in names))
        beating.cancel()
        return list(events)

    events = asyncio.run(all_of_them())
    assert [event["status"] for event in events] == ["SUCCEEDED"] * count
    # A loop that waited for answers would have beaten a handful of times.
    assert beats > 20


def test_it_is_made_from_what_astronomers_provider_has_serialised() -> None:
    made = RayJobTrigger(
        job_id="a",
        conn_id="c",
        xcom_dashboard_url=None,
        ray_cluster_yaml=None,
        gpu_device_plugin_yaml="",
        fetch_logs=True,
        poll_interval=60,
    )
    assert made.serialize()[1]["job_id"] == "a"
