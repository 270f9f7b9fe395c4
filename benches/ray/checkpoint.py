"""A checkpoint of 1 GB to an S3 server on this host, beside the same bytes put there by the AWS CLI."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benches import s3, venvs
from benches.ray.rig import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.ray.rig import Rig

GB = 1_000_000_000
MB = 1_000_000
_BLOCK = 50 * MB


class AwsCli:
    """The client that whoever runs a pipeline has at hand."""

    venv = ".venvs/bench-aws"
    requires = ("awscli==1.46.3",)
    python = None


def measure(rig: Rig, rounds: int) -> dict[str, Any]:
    """
    Seconds, round by round, each with its place in turn.

    What the AWS CLI takes to start, which is measured with an empty file, is taken off; ours is a call in a process
    that has started, as a task is.
    """
    from airfreight._remote import Bucket
    from airfreight._store import Store

    venvs.install(AwsCli, rig.say)  # type: ignore[arg-type] - it has what is asked for
    aws = str(ROOT / AwsCli.venv / "bin" / "aws")
    seconds: dict[str, list[float]] = {"airfreight": [], "aws s3 cp": [], "aws s3 cp, nothing": []}
    with (
        s3.server(rig.say, "bench") as server,
        tempfile.TemporaryDirectory(prefix="airfreight-bench-", dir="/dev/shm") as folder,
    ):
        env = {**os.environ, **server.environment}
        url = "s3://bench"
        store = {"path": f"{folder}/store", "capacity_bytes": 2 * GB}
        name = _object(Store(**store))
        file, nothing = Path(folder) / "value", Path(folder) / "nothing"
        with file.open("wb") as out:
            for _ in range(GB // _BLOCK):
                out.write(os.urandom(_BLOCK))
        nothing.touch()
        bucket = Bucket(url, server.options, environment=False)

        def copy(path: Path) -> None:
            subprocess.run([aws, "s3", "cp", "--quiet", str(path), f"{url}/aws"], env=env, check=True)

        ways: dict[str, tuple[Callable[[], Any], str]] = {
            "airfreight": (lambda: bucket.put_object(store, name, "airfreight"), "airfreight"),
            "aws s3 cp": (lambda: copy(file), "aws"),
            "aws s3 cp, nothing": (lambda: copy(nothing), "aws"),
        }
        for number in range(rounds + 1):
            rig.say(f"checkpoints: round {number} of {rounds}")
            # Who goes first finds another memory than who goes last.
            order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
            for way in order:
                put, key = ways[way]
                began = time.perf_counter()
                put()
                took = time.perf_counter() - began
                if number:
                    seconds[way].append(took)
                # The server keeps all in memory.
                bucket.delete(key)
    return {"nbytes": GB, "seconds": seconds, "median": {way: median(took) for way, took in seconds.items()}}


def _object(store: Any) -> str:
    with store.create() as writer:
        writer.write(b"bench")
        writer.add_buffer(b"".join(os.urandom(_BLOCK) for _ in range(GB // _BLOCK)))
        name: str = writer.seal("{}")
        return name
