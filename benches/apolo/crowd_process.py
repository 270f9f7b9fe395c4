"""
Runs many of Apolo's triggers in one event loop, as a triggerer does, and says how late the loop was meanwhile.

Its argument is a JSON object; it goes on to the next phase whenever it is told a word. What a triggerer does beside
that, talking to its supervisor, is not in here.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
import traceback
from typing import Any, NamedTuple

from benches.crowd import log_as_a_triggerer, report

#: A coroutine sleeps so long, again and again.
TICK = 0.02


class Tick(NamedTuple):
    """
    One sleep.

    :param lag: how many seconds it was too long, for whatever reason.
    :param busy: of those, processor time of the loop's thread: what another load on the machine doesn't change.
    """

    lag: float
    busy: float


def main() -> None:
    log_as_a_triggerer()
    try:
        asyncio.run(_run(json.loads(sys.argv[1])))
    except BaseException:
        # Nobody reads the log.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


async def _run(arguments: dict[str, Any]) -> None:
    from airfreight.triggers.apolo import ApoloJobTrigger

    ticks: list[Tick] = []
    ticking = asyncio.create_task(_tick(ticks))
    report("ready")
    await _phase("nothing", ticks)
    triggers = [ApoloJobTrigger(job, "apolo_bench", fetch_logs=True) for job in arguments["jobs"]]
    watching = [asyncio.create_task(_watch(trigger)) for trigger in triggers]
    await _phase("beginning", ticks)
    await _phase("running", ticks)
    fired = dict(await asyncio.gather(*watching))
    report("ending", **_lags(ticks), fired=fired)
    ticking.cancel()


async def _phase(name: str, ticks: list[Tick]) -> None:
    """Go on when told to, and say how late the loop was until then."""
    ticks.clear()
    await asyncio.to_thread(sys.stdin.readline)
    report(name, **_lags(ticks))
    ticks.clear()


async def _tick(ticks: list[Tick]) -> None:
    while True:
        before, used = time.monotonic(), time.thread_time()
        await asyncio.sleep(TICK)
        ticks.append(Tick(time.monotonic() - before - TICK, time.thread_time() - used))


def _lags(ticks: list[Tick]) -> dict[str, float]:
    """How much later than wished the coroutine went on, in seconds; and what the loop was busy with at the most."""
    # Ticks that a blocked loop swallows must count as much as those that it lets through.
    spread = [tick.lag - missed * TICK for tick in ticks for missed in range(1 + int(max(tick.lag, 0) / TICK))]
    cuts = statistics.quantiles(spread, n=100)
    busy = max(tick.busy for tick in ticks)
    return {"p50": cuts[49], "p99": cuts[98], "max": max(spread), "busy": busy, "ticks": len(spread)}


async def _watch(trigger: Any) -> tuple[str, float]:
    async for event in trigger.run():
        assert event.payload["status"] == "succeeded", event.payload
    return trigger.job_id, time.time()


if __name__ == "__main__":
    main()
