"""
Runs many triggers of one provider in one event loop, as a triggerer does, and says what that costs.

Its argument is a JSON object; it measures when it is told to (`cpu`, `lag`, `submit`), and names every trigger that
fires from then on. A triggerer's other work, talking to its supervisor, is not in here.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

TICK = 0.005


def main() -> None:
    _log_as_a_triggerer()
    try:
        asyncio.run(_run(json.loads(sys.argv[1])))
    except BaseException:
        # Nobody reads the log.
        traceback.print_exc()
        os._exit(1)


def _log_as_a_triggerer() -> None:
    """In JSON, but to nowhere rather than to the supervisor."""
    from airflow.sdk.log import configure_logging

    nowhere = Path(os.devnull).open("wb")  # noqa: SIM115 - open to the end
    configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)


async def _run(arguments: dict[str, Any]) -> None:
    triggers = [_trigger(arguments, number) for number in range(arguments["count"])]
    tasks = [asyncio.create_task(_watch(trigger)) for trigger in triggers]
    _report("started", threads=threading.active_count())
    while word := (await asyncio.to_thread(sys.stdin.readline)).strip():
        name, _, rest = word.partition(" ")
        match name:
            case "cpu":
                _report("cpu", **await _cpu(float(rest)))
            case "lag":
                _report("lag", **await _lag(float(rest)))
            case "submit":
                _report("submit", **await asyncio.to_thread(_submit, arguments["address"], int(rest)))
        failed = [task for task in tasks if task.done() and task.exception() is not None]
        if failed:
            _report("failed", count=len(failed), error=repr(failed[0].exception())[:300])
    # Triggers that are cancelled outside of Airflow stop their jobs.
    os._exit(0)


def _trigger(arguments: dict[str, Any], number: int) -> Any:
    known = {"job_id": f"{arguments['prefix']}{number}", "conn_id": "ray_bench", "fetch_logs": arguments["logs"]}
    if arguments["provider"] == "airfreight":
        from airfreight.triggers.ray import RayJobTrigger

        return RayJobTrigger(**known)
    from ray_provider.triggers import RayJobTrigger as AstroTrigger

    others = {"xcom_dashboard_url": None, "ray_cluster_yaml": None, "gpu_device_plugin_yaml": ""}
    return AstroTrigger(**known, **others, poll_interval=arguments["poll_seconds"])


async def _watch(trigger: Any) -> None:
    async for event in trigger.run():
        at = time.time()
        payload = dict(event.payload)
        _report("fired", job=payload["job_id"], status=str(payload["status"]), message=payload["message"], at=at)


async def _cpu(seconds: float) -> dict[str, float]:
    """All threads together, and nobody else in the loop."""
    started, before = time.monotonic(), _processor_seconds()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - started
    return {
        "share": (_processor_seconds() - before) / elapsed,
        "seconds": elapsed,
        "resident_bytes": _resident_bytes(),
    }


async def _lag(seconds: float) -> dict[str, float]:
    """How much later than wished a coroutine goes on that sleeps for 5 ms, again and again."""
    until = time.monotonic() + seconds
    lags = []
    while (now := time.monotonic()) < until:
        await asyncio.sleep(TICK)
        lags.append(time.monotonic() - now - TICK)
    # Ticks that a blocked loop swallows must count as much as those that it lets through.
    spread = [lag - missed * TICK for lag in lags for missed in range(1 + int(lag / TICK))]
    cuts = statistics.quantiles(spread, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "max": max(spread), "ticks": len(spread)}


def _submit(address: str, count: int) -> dict[str, Any]:
    """Jobs that somebody else in this process submits meanwhile, through the same connections."""
    from airfreight._remote import RayClient

    client = RayClient(address)
    took = []
    for number in range(count):
        started = time.perf_counter()
        client.submit({"entrypoint": "true", "submission_id": f"meanwhile-{os.getpid()}-{number}"})
        took.append(time.perf_counter() - started)
        time.sleep(0.05)
    return {"seconds": took}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _report(name: str, **values: Any) -> None:
    # One write, so that no line of a library gets in between.
    sys.stdout.write("\n" + json.dumps({"report": name, **values}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
