"""
One side of a transfer, in a process whose memory is looked at: a store on this host, and a client of a runner.

Its argument is a JSON object; told ``send``, ``fetch`` or ``end``, it says how long that took.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

INFO = {"deployment": "bench", "dag_id": "bench", "run_id": "bench"}
MB = 1_000_000


def main() -> None:
    arguments = json.loads(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="airfreight-bench-", dir="/dev/shm"))
    try:
        _serve(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(arguments: dict[str, Any], folder: Path) -> None:
    from airfreight._remote import RayClient
    from airfreight._store import Store
    from airfreight.ray.parcel import driver_package

    nbytes = arguments["nbytes"]
    # A quarter of it is for warm segments, and takes a value, as it does with a worker's defaults.
    capacity = 5 * nbytes + 64 * MB
    here, there = ({"path": str(folder / name), "capacity_bytes": capacity} for name in ("here", "there"))
    store, other = Store(here["path"], capacity_bytes=capacity), Store(there["path"], capacity_bytes=capacity)
    name, small = _put(store, nbytes), _put(store, 1000)
    runner = RayClient(arguments["address"]).runner(driver_package(), transport=arguments["transport"])
    about = runner.ready(120)
    _say("ready", transport=about["transport"])
    value: dict[str, Any] = {}
    for line in sys.stdin:
        word = line.strip()
        if word == "end":
            break
        if word == "send":
            owner = f"airfreight-owner-{os.urandom(10).hex()}"
            # What the start of a DAG run's owner takes stands elsewhere.
            runner.send(small, here, owner, INFO, route=arguments["route"])
        began = time.perf_counter()
        if word == "send":
            value = runner.send(name, here, owner, INFO, route=arguments["route"])
            _say("send", took=time.perf_counter() - began)
        elif word == "fetch":
            arrived = runner.fetch({**value, "nbytes": nbytes}, there, route=arguments["route"])
            took = time.perf_counter() - began
            same = bool(other.get(arrived).buffers[0] == store.get(name).buffers[0])
            other.delete(arrived)
            runner.drop_owner(value["owner"])
            _say("fetch", took=took, same=same)


def _put(store: Any, nbytes: int) -> str:
    """Random bytes that are not held afterwards."""
    with store.create() as writer:
        writer.write(b"bench")
        writer.add_buffer(bytearray(os.urandom(nbytes)))
        name: str = writer.seal("{}")
        return name


def _say(report: str, **facts: Any) -> None:
    print(json.dumps({"report": report, **facts}), flush=True)


if __name__ == "__main__":
    main()
