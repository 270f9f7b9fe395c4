"""
Goal: what a trigger asks is carried out, also while the triggerer stops.

Method: Airflow's own end of the wire, with the supervisor's played by the test.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
from airflow.sdk.execution_time import task_runner

from airfreight.ray import pace as pace_module
from airfreight.ray import supervisor
from airfreight.ray.supervisor import Silence, Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ME = Waiting("d", "r", "t", -1, 1)


async def wire(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[dict[str, Any]], Any], ask: Callable[[Any], Awaitable[None]]
) -> list[dict[str, Any]]:
    """Run ``ask`` as a trigger would, and give what has arrived at the supervisor."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    far_reader, far_writer = await asyncio.open_connection(sock=theirs)
    comms = TriggerCommsDecoder(async_writer=writer, async_reader=reader, socket=ours)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    arrived: list[dict[str, Any]] = []

    async def serve() -> None:
        while True:
            frame = await far_reader.readexactly(int.from_bytes(await far_reader.readexactly(4), "big"))
            number, body = msgspec.msgpack.decode(frame)[:2]
            arrived.append(body)
            if (said := answer(body)) is not None:
                reply = msgspec.msgpack.encode([number, said, None])
                far_writer.write(len(reply).to_bytes(4, "big") + reply)

    serving = asyncio.create_task(serve())
    await comms.start_reader()
    try:
        await ask(comms)
    finally:
        serving.cancel()
        comms._reader_task.cancel()
        await asyncio.wait({serving, comms._reader_task})
        writer.close()
        far_writer.close()
    return arrived


def answers(body: dict[str, Any]) -> Any:
    match body["type"]:
        case "GetTaskStates":
            return {"type": "TaskStatesResult", "task_states": {"r": {"t": "deferred"}}}
        case "GetXCom":
            return {
                "type": "XComResult",
                "key": body["key"],
                "value": {"job": "a", "try": 1, "cursor": "c", "complete": True},
            }
    return {}


def test_questions_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(_: Any) -> None:
        assert await supervisor.state(ME) == "deferred"
        saved = await supervisor.saved_cursor(ME, "a")
        assert saved is not None
        assert saved["cursor"] == "c"
        assert await supervisor.saved_cursor(ME, "b") is None
        with pytest.raises(Silence):
            await supervisor.state(Waiting("d", "r", "another", -1, 1))

    asyncio.run(wire(monkeypatch, answers, ask))


def test_what_is_said_while_the_triggerer_stops_is_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(comms: Any) -> None:
        # As Airflow does before it cancels the triggers.
        comms._reader_task.cancel()
        await asyncio.wait({comms._reader_task})
        saved = await asyncio.gather(
            *(supervisor.save_cursor(ME, f"job-{number}", "c", complete=True) for number in range(20))
        )
        assert saved == [True] * 20
        assert comms._reader_task.done()

    arrived = asyncio.run(wire(monkeypatch, lambda _: {"type": "OKResponse", "ok": True}, ask))
    assert [body["value"]["job"] for body in arrived] == [f"job-{number}" for number in range(20)]
    assert {body["type"] for body in arrived} == {"SetXCom"}


def test_silence_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_STATE_SECONDS", 0.05)

    async def ask(_: Any) -> None:
        with pytest.raises(Silence):
            await supervisor.state(ME)

    asyncio.run(wire(monkeypatch, lambda _: None, ask))


def test_outside_of_a_triggerer_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    assert asyncio.run(supervisor.save_cursor(ME, "a", "c", complete=True)) is False


def test_lines_wait_for_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    pings = itertools.count()

    async def ask(_: Any) -> None:
        pace = pace_module.pace()
        for _ in range(1000):
            if pace.logged("x" * 100):
                await pace.settle()
        await pace.settle()

    def count(body: dict[str, Any]) -> Any:
        assert body == {"type": "MaskSecret", "value": "", "name": None}
        next(pings)
        return {"type": "OKResponse", "ok": True}

    asyncio.run(wire(monkeypatch, count, ask))
    # 4 KiB at a time, of which Airflow's own part of each line is most.
    assert 1000 * 500 // 4096 <= next(pings) <= 1000 * 500 // 2048
