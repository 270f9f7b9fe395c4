"""A task on another host that fetches one object whenever it is told ``fetch``. Its argument is a JSON object."""

from __future__ import annotations

import json
import resource
import sys
import time


def main() -> None:
    from airfreight._remote import Agent
    from airfreight._store import Store

    wanted = json.loads(sys.argv[1])
    options = wanted["store"]
    store = Store(options["path"], capacity_bytes=options["capacity_bytes"])
    agent = Agent(wanted["url"], token=wanted["token"], authorities=wanted["authorities"])
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        before = _processor_time()
        began = time.perf_counter()
        nbytes = agent.fetch(options, wanted["name"])
        took = time.perf_counter() - began
        cpu = _processor_time() - before
        same = bool(store.get(wanted["name"]).buffers[0][-8:] == bytes(range(8)))
        store.delete(wanted["name"])
        print(json.dumps({"took": took, "cpu": cpu, "nbytes": nbytes, "same": same}), flush=True)


def _processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
