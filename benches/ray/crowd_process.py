"""
Runs many triggers of one provider in one event loop, as a triggerer does, and says what that costs.

Its argument is a JSON object; it says what it is asked for (`lag`, `submit`), and names every trigger that fires. A
triggerer's other work, talking to its supervisor, is not in here.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

#: A coroutine sleeps so long, again and again; twenty times a second costs 0.3 % of a core, which counts as theirs.
TICK = 0.05


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
    ticks: list[tuple[float, float]] = []
    tasks = [asyncio.create_task(_tick(ticks))]
    await asyncio.sleep(10 * TICK)
    triggers = [_trigger(arguments, number) for number in range(arguments["count"])]
    _report("started")
    if not triggers:
        tasks.append(asyncio.create_task(_log(arguments["lines_per_second"])))
    tasks += [asyncio.create_task(_watch(trigger)) for trigger in triggers]
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        match words:
            case ["lag", begin, end]:
                _report("lag", **_lag(ticks, float(begin), float(end)))
            case ["submit", count]:
                _report("submit", **await asyncio.to_thread(_submit, arguments["address"], int(count)))
        for task in tasks:
            if task.done():
                task.result()
    # Triggers that are cancelled outside of Airflow stop their jobs.
    os._exit(0)


async def _log(lines_per_second: float) -> None:
    """What lines cost that a trigger logs, however it came by them; two at a time, as they come from a job's log."""
    from benches.ray.moment import MomentTrigger

    log = MomentTrigger(0).log
    while True:
        await asyncio.sleep(2 / lines_per_second)
        for _ in range(2):
            log.info("%s", "x" * 100)


async def _tick(ticks: list[tuple[float, float]]) -> None:
    while True:
        before = time.monotonic()
        await asyncio.sleep(TICK)
        now = time.monotonic()
        ticks.append((now, now - before - TICK))


def _lag(ticks: list[tuple[float, float]], begin: float, end: float) -> dict[str, float]:
    """How much later than wished the coroutine went on between two moments of the monotonic clock."""
    lags = [lag for at, lag in ticks if at > begin and at - lag < end]
    # Ticks that a blocked loop swallows must count as much as those that it lets through.
    spread = [lag - missed * TICK for lag in lags for missed in range(1 + int(lag / TICK))]
    cuts = statistics.quantiles(spread, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "max": max(spread), "ticks": len(spread)}


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


def _report(name: str, **values: Any) -> None:
    # One write, so that no line of a library gets in between.
    sys.stdout.write("\n" + json.dumps({"report": name, **values}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
