"""
Goal: values leave and enter the cluster whole or not at all, and nothing stays of what nobody wants any more.

Method: object files over the runner's own port, through the dashboard, and to a URL; damaged, repeated, twice at once.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from files import CHUNK, begin, exported, file_of, finish, put, used, wait_until_used
from runner_client import Input, RefusedError, Run, RunnerHome

from airfreight.ray.cluster import objectfile
from ray_home import RayHome

pytestmark = pytest.mark.slow


def numbers(count: int) -> Any:
    import numpy as np

    return np.arange(count)


def total(array: Any) -> int:
    return int(array.sum())


def test_a_file_is_the_same_each_time_and_in_any_pieces(run: Run) -> None:
    value = run.result(numbers, 1_500_000)
    data = file_of(run, value)
    assert "crc32" not in exported(run, value), "summing it up takes as long as reading it"
    export = exported(run, value, {"kind": "port", "checksums": True})
    assert export["crc32"] == [zlib.crc32(data[start : start + CHUNK]) for start in range(0, len(data), CHUNK)]
    for start, stop in ((0, 1), (100, 5000), (CHUNK - 7, CHUNK + 9), (len(data) - 3, len(data))):
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        assert run.home.request("GET", f"/v1/exports/{export['export']}/data", headers=headers) == data[start:stop]
    run.home.request("DELETE", f"/v1/exports/{export['export']}")
    with pytest.raises(RefusedError) as refused:
        run.home.request("GET", f"/v1/exports/{export['export']}/data")
    assert refused.value.kind == "NotFound"
    assert file_of(run, value) == data
    packed = objectfile.parse(memoryview(data))
    assert packed.facts["type"] == "numpy.ndarray"
    assert packed.value().sum() == 1_500_000 * 1_499_999 // 2


def test_a_file_goes_through_the_dashboard(run: Run) -> None:
    from binascii import a2b_base64

    value = run.result(numbers, 200_000)
    export = exported(run, value, {"kind": "log"})
    lines = (run.home.ray.logs / export["file"]).read_bytes().splitlines()
    data = bytearray()
    for line in lines:
        checksum, _, text = line.partition(b" ")
        chunk = a2b_base64(text)
        assert zlib.crc32(chunk) == int(checksum, 16)
        data += chunk
    assert bytes(data) == file_of(run, value)


def test_chunks_may_come_damaged_twice_and_in_any_order(run: Run, runner: RunnerHome) -> None:
    data = file_of(run, run.result(numbers, 1_500_000))
    other = Run(runner)
    chunks = [(start, data[start : start + CHUNK]) for start in range(0, len(data), CHUNK)]
    assert len(chunks) == 3
    assert put(other, "object-1", chunks[1][1], chunks[1][0], len(data)) == {"received": 0}
    with pytest.raises(RefusedError) as refused:
        put(other, "object-1", chunks[0][1], 0, len(data), "00000000")
    assert (refused.value.status, refused.value.kind) == (400, "Corrupt")
    with pytest.raises(RefusedError) as refused:
        finish(other, "object-1", len(data))
    assert refused.value.kind == "Conflict"
    assert put(other, "object-1", chunks[0][1], 0, len(data)) == {"received": 2 * CHUNK}
    assert put(other, "object-1", chunks[0][1], 0, len(data)) == {"received": 2 * CHUNK}
    # A chunk that has come, and comes again damaged, counts no more.
    with pytest.raises(RefusedError):
        put(other, "object-1", b"x" * CHUNK, CHUNK, len(data), "00000000")
    assert runner.request("GET", f"/v1/uploads/{other.name}/object-1") == {"state": "partial", "received": CHUNK}
    put(other, "object-1", chunks[1][1], CHUNK, len(data))
    assert put(other, "object-1", chunks[2][1], chunks[2][0], len(data)) == {"received": len(data)}
    there = finish(other, "object-1", len(data))
    assert there["state"] == "there"
    value = Input({"owner": other.name, "generation": there["generation"], "key": "object-1"})
    assert other.result(total, value) == 1_500_000 * 1_499_999 // 2
    assert finish(other, "object-1", len(data)) == there
    other.end()


def test_what_is_no_object_is_refused(run: Run) -> None:
    run.result(numbers, 10)
    data = secrets.token_bytes(5000)
    put(run, "object-2", data, 0, len(data))
    with pytest.raises(RefusedError) as refused:
        finish(run, "object-2", len(data))
    assert refused.value.kind == "Corrupt"
    assert run.ask("GET", f"/v1/uploads/{run.name}/object-2")["state"] == "absent"


def test_two_who_send_the_same_value_make_it_once(run: Run, runner: RunnerHome) -> None:
    data = file_of(run, run.result(numbers, 400_000))
    senders = [RunnerHome(runner.ray, about=runner.about) for _ in range(4)]

    def send(home: RunnerHome) -> dict[str, Any]:
        mine = Run(home)
        mine.name = run.name
        if begin(mine, "object-3", len(data))["state"] == "partial":
            put(mine, "object-3", data, 0, len(data))
        return finish(mine, "object-3", len(data))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(send, senders))
    assert all(each == found[0] for each in found)
    owner = next(each for each in run.ask("GET", "/v1/owners")["owners"] if each["name"] == run.name)
    assert owner["values"] == 2


def test_packages_of_ray_become_a_value(run: Run) -> None:
    data = file_of(run, run.result(numbers, 300_000))
    names = [f"afval_{run.home.id}_{secrets.token_hex(8)}_{index}" for index in range(2)]
    half = len(data) // 2
    for name, part in zip(names, (data[:half], data[half:]), strict=True):
        run.home.put_package(name, part)
    there = finish(run, "object-4", len(data), {"kind": "kv", "names": names})
    value = Input({"owner": run.name, "generation": there["generation"], "key": "object-4"})
    assert run.result(total, value) == 300_000 * 299_999 // 2


def test_a_url_takes_and_gives_a_value(run: Run) -> None:
    taken: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            taken[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            data = taken[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/bucket/value?signature=secret"
    value = run.result(numbers, 600_000)
    export = exported(run, value, {"kind": "url", "url": url, "headers": {}})
    data = taken["/bucket/value?signature=secret"]
    assert export["nbytes"] == len(data)
    assert export["crc32"] == [zlib.crc32(data[start : start + CHUNK]) for start in range(0, len(data), CHUNK)]
    assert data == file_of(run, value)
    checksums = [zlib.crc32(data[start : start + CHUNK]) for start in range(0, len(data), CHUNK)]
    there = finish(run, "object-5", len(data), {"kind": "url", "url": url, "chunk": CHUNK, "crc32": checksums})
    assert run.result(total, Input({**value.value, "generation": there["generation"], "key": "object-5"})) > 0
    wrong = {"kind": "url", "url": url, "chunk": CHUNK, "crc32": [1] * len(checksums)}
    with pytest.raises(RefusedError) as refused:
        finish(run, "object-6", len(data), wrong)
    assert refused.value.kind == "Corrupt"
    assert "secret" not in refused.value.message
    server.shutdown()
    server.server_close()


def test_dropped_values_and_ended_runs_free_their_memory(runner: RunnerHome) -> None:
    wait_until_used(runner.ray, 30_000_000)
    before = used(runner.ray)
    run = Run(runner)
    values = [run.result(numbers, 1_000_000) for _ in range(3)]
    assert run.ask("DELETE", f"/v1/values/{run.name}/{values[0].value['key']}") == {"dropped": True}
    assert run.ask("DELETE", f"/v1/values/{run.name}/{values[0].value['key']}") == {"dropped": False}
    assert run.ask("GET", run.value_path(values[0])) == {"state": "gone"}
    wait_until_used(runner.ray, before + 17_000_000)
    run.end()
    # Together they wouldn't fit into the store.
    for _ in range(8):
        each = Run(runner)
        each.result(total, each.result(numbers, 1_000_000))
        each.end()
    wait_until_used(runner.ray, before + 1_000_000)


def test_a_process_lets_go_of_what_its_last_call_took(run: Run, runner: RunnerHome) -> None:
    wait_until_used(runner.ray, 0)
    value = run.result(numbers, 1_000_000)
    assert run.result(total, value) == 1_000_000 * 999_999 // 2
    run.ask("DELETE", f"/v1/values/{run.name}/{value.value['key']}")
    wait_until_used(runner.ray, 0)


def test_an_owner_that_nobody_uses_ends(runner: RunnerHome) -> None:
    run = Run(runner)
    value = run.result(numbers, 100_000, ttl_seconds=2)
    deadline = time.monotonic() + 90
    while runner.request("GET", run.value_path(value)) != {"state": "gone"}:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_runner_ends_when_it_is_told_to_and_when_nobody_needs_it() -> None:
    with RayHome.start(num_cpus=2) as ray:
        home = RunnerHome(ray)
        home.start()
        run = Run(home)
        value = run.result(numbers, 10_000)
        assert home.request("POST", "/v1/end") == {"ended": True}
        assert ray.wait_for_job(home.job)["status"] == "SUCCEEDED"
        assert not (ray.logs / "airfreight" / f"{home.id}.json").exists()
        # Long enough for the first request to come.
        home.idle_seconds = 8
        home.start()
        # What it had is there still.
        assert run.result(total, value) == 49_995_000
        assert ray.wait_for_job(home.job)["status"] == "SUCCEEDED"
        home.close()


def test_a_plain_letter_is_answered(runner: RunnerHome) -> None:
    message = secrets.token_hex(16)
    runner.put_package(f"afin_{runner.id}_{message}", b"no json")
    path = runner.ray.logs / "airfreight" / runner.about["generation"] / f"{message}.json"
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert json.loads(path.read_text())["status"] == 400
