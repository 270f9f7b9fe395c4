"""
Waits for many Ray clusters in one event loop, as a triggerer does, and says what that took of the processor.

Its argument is a JSON object with the clusters; it goes on to the next phase whenever it is told a word.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
import traceback
from typing import Any

from benches.crowd import log_as_a_triggerer, report


def main() -> None:
    log_as_a_triggerer()
    try:
        asyncio.run(_run(json.loads(sys.argv[1])["clusters"]))
    except BaseException:
        # Nobody reads the log.
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


async def _run(clusters: list[dict[str, Any]]) -> None:
    from airfreight.triggers.ray import RayClusterTrigger

    report("ready")
    await phase("nothing")
    triggers = [RayClusterTrigger("kube_bench", cluster, time.time() + 3600) for cluster in clusters]
    watching = [asyncio.create_task(_watch(trigger)) for trigger in triggers]
    await phase("beginning")
    await phase("waiting")
    await phase("changing")
    fired = dict(await asyncio.gather(*watching))
    report("ending", fired=fired)


async def phase(name: str) -> None:
    """Go on when told to, and say what was used until then."""
    began, used = time.monotonic(), _processor()
    await asyncio.to_thread(sys.stdin.readline)
    took = time.monotonic() - began
    own = resource.getrusage(resource.RUSAGE_SELF)
    report(name, seconds=took, processor=_processor() - used, peak_bytes=1024 * own.ru_maxrss)


def _processor() -> float:
    """Seconds of all threads."""
    return time.process_time()


async def _watch(trigger: Any) -> tuple[str, float]:
    async for event in trigger.run():
        assert event.payload["status"] == "READY", event.payload
    return trigger.cluster["name"], time.time()


if __name__ == "__main__":
    main()
