"""Object files in and out of a runner, and what they take of Ray's store."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

from runner_client import crc32

if TYPE_CHECKING:
    from runner_client import Input, Run

    from ray_home import RayHome

CHUNK = 4 * 1024 * 1024


def exported(run: Run, value: Input, to: dict[str, Any] | None = None) -> dict[str, Any]:
    wanted = {name: value.value[name] for name in ("owner", "generation", "key")}
    found: dict[str, Any] = run.ask("POST", "/v1/exports?wait=30", {**wanted, "to": to or {"kind": "port"}})
    assert found["state"] == "ready"
    return found


def file_of(run: Run, value: Input) -> bytes:
    export = exported(run, value)
    data: bytes = run.home.request("GET", f"/v1/exports/{export['export']}/data")
    assert len(data) == export["nbytes"] == value.value["file_bytes"]
    run.home.request("DELETE", f"/v1/exports/{export['export']}")
    return data


def begin(run: Run, key: str, nbytes: int) -> dict[str, Any]:
    found: dict[str, Any] = run.ask("POST", f"/v1/uploads/{run.name}/{key}/begin", {"nbytes": nbytes, "info": run.info})
    return found


def put(run: Run, key: str, data: bytes, offset: int, total: int, checksum: str | None = None) -> dict[str, Any]:
    path = f"/v1/uploads/{run.name}/{key}?offset={offset}&total={total}"
    headers = {"X-Airfreight-Crc32": checksum or crc32(data)}
    found: dict[str, Any] = run.home.request("PUT", path, data=data, headers=headers)
    return found


def put_all(run: Run, key: str, data: bytes) -> None:
    for start in range(0, len(data), CHUNK):
        put(run, key, data[start : start + CHUNK], start, len(data))


def finish(run: Run, key: str, nbytes: int, source: dict[str, Any] | None = None) -> dict[str, Any]:
    wanted = {"nbytes": nbytes, "from": source or {"kind": "port"}, "info": run.info}
    found: dict[str, Any] = {"state": "importing"}
    while found["state"] == "importing":
        found = run.ask("POST", f"/v1/uploads/{run.name}/{key}/finish?wait=20", wanted)
    return found


def used(ray: RayHome) -> int:
    """How many bytes Ray's store holds, in whole MiB; the dashboard says it too, but many seconds late."""
    command = [str(ray.venv / "bin" / "ray"), "memory", "--stats-only", "--address", ray.gcs_address]
    said = subprocess.run(command, env=ray.env, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Plasma memory usage (\d+) MiB", said)
    assert found is not None, said
    return int(found[1]) << 20


def wait_until_used(ray: RayHome, most: int, least: int = 0) -> None:
    deadline = time.monotonic() + 60
    while not least <= used(ray) <= most:
        assert time.monotonic() < deadline, used(ray)
        time.sleep(0.2)
