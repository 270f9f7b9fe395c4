"""
Goal: a value arrives in Ray's store where it is to stay, whole or not at all, and nothing stays of one that doesn't.

Method: real uploads that are damaged, cut off late, left alone, or whose owner or runner is killed; a store so small
that Ray has to spill while one is on its way.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from files import CHUNK, begin, file_of, finish, put, put_all, wait_until_used
from runner_client import Input, RefusedError, Run, RunnerHome, crc32

from airfreight.ray.cluster import room
from airfreight.ray.cluster.problem import Problem
from ray_home import RayHome

MIB = 1 << 20
COUNT = 1_500_000
SUM = COUNT * (COUNT - 1) // 2


def numbers(count: int) -> Any:
    import numpy as np

    return np.arange(count)


def total(array: Any) -> int:
    return int(array.sum())


def arrived(run: Run, key: str, there: dict[str, Any]) -> Input:
    assert there["state"] == "there"
    return Input({"owner": run.name, "generation": there["generation"], "key": key})


@pytest.fixture(scope="module")
def data(runner: RunnerHome) -> bytes:
    """An object file of three chunks."""
    run = Run(runner)
    found = file_of(run, run.result(numbers, COUNT))
    run.end()
    assert len(range(0, len(found), CHUNK)) == 3
    return found


def test_only_memory_that_processes_share_is_written_to() -> None:
    shared, private = mmap.mmap(-1, 8192), mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = memoryview(shared).toreadonly()
    place = room.writable(view)
    assert place is not None
    place[8000:] = b"x" * 192
    assert bytes(view[7999:8001]) == b"\0x"
    assert room.writable(memoryview(private).toreadonly()) is None
    assert room.writable(memoryview(bytes(8192))) is None
    assert room.writable(memoryview(b"")) is None


def test_what_was_never_filled_is_lost() -> None:
    empty = room.empty(1 << 20)
    found = room.opened(empty.view)
    assert isinstance(found, room.Room)
    for use in (found.value, lambda: found.stream):
        with pytest.raises(Problem, match="lost a value") as problem:
            use()
        assert problem.value.kind == "Lost"


@pytest.mark.slow
def test_a_value_arrives_where_it_is_to_stay(run: Run, runner: RunnerHome, data: bytes) -> None:
    run.result(numbers, 10)
    wait_until_used(runner.ray, MIB)
    assert begin(run, "object-1", len(data)) == {"state": "partial", "received": 0}
    wait_until_used(runner.ray, len(data) + MIB, len(data) - MIB)
    put(run, "object-1", data[CHUNK : 2 * CHUNK], CHUNK, len(data))
    with pytest.raises(RefusedError) as refused:
        put(run, "object-1", data[:CHUNK], 0, len(data), "00000000")
    assert refused.value.kind == "Corrupt"
    with pytest.raises(RefusedError) as refused:
        finish(run, "object-1", len(data))
    assert refused.value.kind == "Conflict"
    assert put(run, "object-1", data[:CHUNK], 0, len(data)) == {"received": 2 * CHUNK}
    assert begin(run, "object-1", len(data)) == {"state": "partial", "received": 2 * CHUNK}
    put(run, "object-1", data[2 * CHUNK :], 2 * CHUNK, len(data))
    value = arrived(run, "object-1", finish(run, "object-1", len(data)))
    assert run.result(total, value) == SUM
    assert begin(run, "object-1", len(data))["state"] == "there"
    wait_until_used(runner.ray, len(data) + MIB, len(data) - MIB)
    looked = run.ask("GET", run.value_path(value))
    assert looked["type"] == "numpy.ndarray"
    assert looked["nbytes"] >= 8 * COUNT
    assert looked["file_bytes"] == len(data)
    assert run.ask("DELETE", f"/v1/values/{run.name}/object-1") == {"dropped": True}
    wait_until_used(runner.ray, MIB)


@pytest.mark.slow
def test_who_begins_at_once_shares_the_room(run: Run, runner: RunnerHome, data: bytes) -> None:
    wait_until_used(runner.ray, MIB)
    runs = [Run(RunnerHome(runner.ray, about=runner.about)) for _ in range(6)]
    for each in runs:
        each.name, each.info = run.name, run.info
    with ThreadPoolExecutor(6) as pool:
        assert [state["state"] for state in pool.map(lambda each: begin(each, "o", len(data)), runs)] == ["partial"] * 6
        wait_until_used(runner.ray, len(data) + MIB, len(data) - MIB)
        list(pool.map(lambda each: put_all(each, "o", data), runs))
        there = list(pool.map(lambda each: finish(each, "o", len(data)), runs))
    assert all(each == there[0] for each in there)
    assert run.result(total, arrived(run, "o", there[0])) == SUM


@pytest.mark.slow
def test_who_still_sends_when_all_has_come_is_cut_off(run: Run, runner: RunnerHome, data: bytes) -> None:
    begin(run, "object-2", len(data))
    put_all(run, "object-2", data)
    with socket.create_connection(("127.0.0.1", runner.about["port"])) as late:
        head = (
            f"PUT /v1/uploads/{run.name}/object-2?offset={CHUNK}&total={len(data)} HTTP/1.1\r\nHost: it\r\n"
            f"Authorization: Bearer {runner.about['token']}\r\nX-Airfreight-Crc32: {crc32(b'')}\r\n"
            f"Content-Length: {CHUNK}\r\n\r\n"
        )
        late.sendall(head.encode() + b"x" * (CHUNK // 2))
        with pytest.raises(RefusedError) as refused:
            finish(run, "object-2", len(data))
        assert refused.value.kind == "Conflict", "half of a chunk lies over one that had come"
        assert late.recv(1) == b"", "closed without an answer"
    assert begin(run, "object-2", len(data)) == {"state": "partial", "received": CHUNK}
    put(run, "object-2", data[CHUNK : 2 * CHUNK], CHUNK, len(data))
    put(run, "object-2", data[2 * CHUNK :], 2 * CHUNK, len(data))
    value = arrived(run, "object-2", finish(run, "object-2", len(data)))
    assert run.result(total, value) == SUM
    # Who comes when it is over makes no new room, and does no harm.
    put(run, "object-2", data[:CHUNK], 0, len(data))
    assert file_of(run, Input({**value.value, "file_bytes": len(data)}))[-CHUNK:] != b"x" * CHUNK
    assert run.result(total, value) == SUM


@pytest.mark.slow
def test_what_is_no_object_leaves_no_room(run: Run, runner: RunnerHome) -> None:
    wait_until_used(runner.ray, MIB)
    junk = os.urandom(2 * CHUNK)
    begin(run, "object-3", len(junk))
    put_all(run, "object-3", junk)
    with pytest.raises(RefusedError) as refused:
        finish(run, "object-3", len(junk))
    assert refused.value.kind == "Corrupt"
    assert run.ask("GET", f"/v1/uploads/{run.name}/object-3")["state"] == "absent"
    wait_until_used(runner.ray, MIB)


@pytest.mark.slow
def test_room_of_a_killed_runner_is_free_again(runner: RunnerHome, data: bytes) -> None:
    wait_until_used(runner.ray, MIB)
    run = Run(runner)
    begin(run, "object-4", len(data))
    put(run, "object-4", data[:CHUNK], 0, len(data))
    before = runner.about
    os.kill(before["pid"], signal.SIGKILL)
    runner.find(after=before["epoch"])
    assert run.ask("GET", f"/v1/uploads/{run.name}/object-4")["state"] == "absent"
    wait_until_used(runner.ray, MIB)
    run.end()


@pytest.mark.slow
def test_a_new_owner_gets_everything_anew(runner: RunnerHome, data: bytes) -> None:
    run = Run(runner)
    begin(run, "object-5", len(data))
    put_all(run, "object-5", data)
    run.end()
    with pytest.raises(RefusedError) as refused:
        finish(run, "object-5", len(data))
    assert refused.value.kind == "Lost"
    assert begin(run, "object-5", len(data)) == {"state": "partial", "received": 0}
    put_all(run, "object-5", data)
    assert run.result(total, arrived(run, "object-5", finish(run, "object-5", len(data)))) == SUM
    run.end()
    wait_until_used(runner.ray, MIB)


@pytest.mark.slow
def test_room_stays_in_memory_while_others_are_spilled() -> None:
    with RayHome.start(num_cpus=2, object_store_bytes=160 * 1024 * 1024) as ray:
        home = RunnerHome(ray)
        home.start()
        run = Run(home)
        count = 6_000_000
        data = file_of(run, first := run.result(numbers, count))
        begin(run, "object-6", len(data))
        half = len(data) // 2 // CHUNK * CHUNK
        for start in range(0, half, CHUNK):
            put(run, "object-6", data[start : start + CHUNK], start, len(data))
        # Together with these it doesn't fit.
        others = [run.result(numbers, count) for _ in range(4)]
        for start in range(half, len(data), CHUNK):
            put(run, "object-6", data[start : start + CHUNK], start, len(data))
        value = arrived(run, "object-6", finish(run, "object-6", len(data)))
        # It is spilled as any other now, and comes back whole.
        others += [run.result(numbers, count) for _ in range(3)]
        for each in (value, first, *others, value):
            assert run.result(total, each) == count * (count - 1) // 2
        home.close()
