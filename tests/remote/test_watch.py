"""Watches from a thread, and from an asyncio loop."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any

import pytest

from airfreight import errors
from airfreight._remote import RayClient, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ray_home.fault_server import FaultServer


def on_a_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def to_the_end(watch: Watch) -> list[dict[str, Any]]:
    events = []
    while True:
        event = watch.next(60)
        assert event is not None
        events.append(event)
        if event["event"] in ("ended", "gone"):
            return events


async def ato_the_end(watch: Watch) -> list[dict[str, Any]]:
    events = []
    while True:
        events.append(await watch.anext())
        if events[-1]["event"] in ("ended", "gone"):
            return events


def lines_of(events: list[dict[str, Any]]) -> list[str]:
    return [line for event in events for line in event.get("lines", [])][2:]


def test_events_are_dicts_with_all_that_happened(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "PENDING"], [300, "RUNNING"], [900, "FAILED"]], log="one\n  two\nthr", log_end="ee")
    with client.watch("a") as watch:
        assert watch.submission_id == "a"
        events = to_the_end(watch)
        assert lines_of(events) == ["one", "  two", "three"]
        assert [event["status"] for event in events if event["event"] == "status"] == ["PENDING", "RUNNING", "FAILED"]
        assert events[-1]["event"] == "ended"
        assert events[-1]["job"]["driver_exit_code"] == 1
        assert events[-1]["log_error"] is None
        assert watch.next() == events[-1], "the last one stays"
    assert watch.cursor == client_cursor(events, watch)
    with pytest.raises(errors.InvalidError, match="closed"):
        watch.next()


def client_cursor(events: list[dict[str, Any]], watch: Watch) -> str:
    last = [event for event in events if event["event"] == "lines"][-1]["cursor"]
    assert len(last) < 1024
    return f"{last}-exact"


def test_waiting_has_a_limit(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "RUNNING"]])
    watch = client.watch("a", logs=False)
    first = watch.next()
    assert first is not None
    assert first["event"] == "status"
    assert watch.next(0) is None
    assert watch.next(0.2) is None


def test_a_deadline_is_told_and_the_watch_goes_on(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "RUNNING"], [800, "SUCCEEDED"]])
    names = [event["event"] for event in to_the_end(client.watch("a", logs=False, deadline=time.time() + 0.3))]
    assert names == ["status", "deadline", "status", "ended"]


def test_a_dashboard_that_is_gone_is_given_up(server: FaultServer) -> None:
    watch = RayClient(server.address, patience=1.5).watch("a")
    server.control("POST", "", {"refuse": True})
    with pytest.raises(errors.UnavailableError) as raised:
        to_the_end(watch)
    assert raised.value.hint


@on_a_loop
async def test_cancelling_loses_nothing(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "RUNNING"]])
    watch = client.watch("a", logs=False)
    assert (await watch.anext())["event"] == "status"
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watch.anext(), 0.05)
    waiting = watch.anext()
    with pytest.raises(errors.InvalidError, match="awaited already"):
        watch.anext()
    waiting.cancel()
    server.control("POST", "/jobs/a", {"status": "SUCCEEDED"})
    assert [(await watch.anext())["event"] for _ in range(3)] == ["status", "ended", "ended"]


@on_a_loop
async def test_closing_wakes_who_waits(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "RUNNING"]])
    watch = client.watch("a", logs=False)
    await watch.anext()
    waiting = watch.anext()
    watch.close()
    with pytest.raises(errors.InvalidError, match="closed"):
        await waiting


def test_a_loop_may_be_closed_while_somebody_waits(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "RUNNING"]])
    watch = client.watch("a", logs=False)

    async def abandon() -> None:
        await watch.anext()
        watch.anext()

    asyncio.run(abandon())
    server.control("POST", "/jobs/a", {"status": "SUCCEEDED"})
    assert asyncio.run(ato_the_end(watch))[-1]["event"] == "ended"


@on_a_loop
async def test_two_hundred_watches_share_few_connections_and_leave_the_loop_free(
    server: FaultServer, client: RayClient
) -> None:
    count = 200
    for number in range(count):
        server.add_job(
            f"j{number}",
            states=[[0, "RUNNING"], [2000 + 10 * number, "SUCCEEDED"]],
            log="".join(f"{number}: line {line}\n" for line in range(200)),
        )
    server.control("DELETE", "/requests")
    before = len(asyncio.all_tasks())
    results = await asyncio.gather(*(ato_the_end(client.watch(f"j{number}")) for number in range(count)))
    for number, events in enumerate(results):
        assert lines_of(events) == [f"{number}: line {line}" for line in range(200)]
    assert len(asyncio.all_tasks()) == before
    traffic = server.control("GET", "/requests")
    assert traffic["open_max"] <= 8
    lists = [request for request in traffic["requests"] if request["path"] == "/api/jobs/"]
    assert len(lists) < 30
