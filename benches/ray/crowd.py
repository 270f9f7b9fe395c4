"""One process that watches many jobs: what it costs, how long its event loop stands still, and what the server sees."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benches.ray.rig import RECORD_BYTES

if TYPE_CHECKING:
    from benches.ray.rig import Program, Rig
    from ray_home.fault_server import FaultServer

#: So long everything has had its first answer, and the watcher has its rhythm.
SETTLE_SECONDS = 6.0
#: How long its cost is measured, unless astro's triggers sleep for longer.
SECONDS = 16.0
#: So many jobs end then, one after the other, so that none is noticed with another one.
ENDING = 20
NOTICE_SECONDS = 15.0
JOBS = 1000
#: What each job writes whose log is wanted.
LINES_PER_SECOND = 0.1


@dataclass(frozen=True)
class Crowd:
    """
    Triggers of one provider.

    :param provider: whose.
    :param count: how many, each for a running job.
    :param logs: whether they want the jobs' logs, in each of which a line is written every ten seconds.
    :param poll_seconds: how often astro's look at their job.
    :param lines_per_second: without any trigger, so many lines are logged.
    """

    provider: str
    count: int
    logs: bool = False
    poll_seconds: float = 0
    lines_per_second: float = 0

    @property
    def label(self) -> str:
        if not self.count:
            return f"no triggers, {self.lines_per_second:g} lines logged a second"
        logs = ", logs wanted" if self.logs else ""
        poll = f", poll {self.poll_seconds:g} s" if self.poll_seconds else ""
        return f"{self.provider}, {self.count} jobs{logs}{poll}"


#: The fault server has no WebSockets, by which astro's trigger reads logs; without logs it has less to do.
CROWDS = (
    Crowd("airfreight", 0, lines_per_second=JOBS * LINES_PER_SECOND),
    Crowd("airfreight", JOBS),
    Crowd("airfreight", JOBS, logs=True),
    Crowd("airfreight", 50),
    Crowd("astro", 20, poll_seconds=5),
    # What its trigger does by default.
    Crowd("astro", JOBS, poll_seconds=30),
)


def measure(rig: Rig, _rounds: int) -> dict[str, Any]:
    """One process after the other; within each, thousands of ticks and requests are the rounds."""
    found: dict[str, Any] = {}
    for crowd in CROWDS:
        if crowd.provider not in rig.pythons:
            continue
        rig.say(f"a crowd of jobs: {crowd.label}")
        try:
            found[crowd.label] = asdict(crowd) | _one(rig, crowd)
        except RuntimeError as error:
            found[crowd.label] = asdict(crowd) | {"error": str(error)}
    return {"crowds": found, "missing": rig.missing}


def _one(rig: Rig, crowd: Crowd) -> dict[str, Any]:
    with rig.fault_server() as server:
        script: dict[str, Any] = {"states": [[0, "RUNNING"]], "record_bytes": RECORD_BYTES}
        if crowd.logs:
            script |= {"log_lines_per_second": LINES_PER_SECOND, "log_line_bytes": 100}
        server.control("POST", "/jobs", {"count": crowd.count, "prefix": "crowd-", "script": script})
        arguments = asdict(crowd) | {"prefix": "crowd-"}
        with rig.program(crowd.provider, "crowd_process", server.address, arguments) as program:
            program.report("started")
            found: dict[str, Any] = {"start": _phase(server, program, SETTLE_SECONDS)}
            found |= _phase(server, program, max(SECONDS, crowd.poll_seconds))
            if crowd.provider == "airfreight" and crowd.logs:
                program.tell("submit 100")
                found["submit"] = _summary(program.report("submit")["seconds"])
                found["traffic"]["open_max"] = server.control("GET", "/requests")["open_max"]
            if crowd.count and not crowd.logs and crowd.poll_seconds < NOTICE_SECONDS:
                found["notice"] = _notice(server, program, crowd)
            return found


def _phase(server: FaultServer, program: Program, seconds: float) -> dict[str, Any]:
    """What the process and the server do for so long."""
    server.control("DELETE", "/requests")
    began, processor = time.monotonic(), program.processor_seconds()
    time.sleep(seconds)
    ended, used = time.monotonic(), program.processor_seconds() - processor
    found = {
        "processor_share": used / (ended - began),
        "resident_bytes": program.resident_bytes(),
        "traffic": _traffic(server, ended - began),
    }
    program.tell(f"lag {began} {ended}")
    # A blocked event loop answers when it is free again.
    return found | {"lag": program.report("lag")}


def _traffic(server: FaultServer, seconds: float) -> dict[str, Any]:
    traffic = server.control("GET", "/requests")
    paths = Counter(_kind(f"{one['method']} {one['path'].partition('?')[0]}") for one in traffic["requests"])
    return {
        "requests_per_second": len(traffic["requests"]) / seconds,
        "lists": paths["GET /api/jobs/"],
        "seconds_between_lists": seconds / paths["GET /api/jobs/"] if paths["GET /api/jobs/"] else None,
        "kinds": dict(paths.most_common()),
        "connections": traffic["connections"],
        "open_max": traffic["open_max"],
    }


def _kind(request: str) -> str:
    head, found, _ = request.partition("crowd-")
    return head + "…" if found else request


def _notice(server: FaultServer, program: Program, crowd: Crowd) -> dict[str, Any]:
    """Seconds from the end of a job to the event of its trigger."""
    ended = {}
    for number in range(min(ENDING, crowd.count)):
        name = f"crowd-{number}"
        server.control("POST", f"/jobs/{name}", {"status": "SUCCEEDED"})
        ended[name] = time.time()
        # Not in step with whoever looks at a regular interval.
        time.sleep(0.1 + 0.037 * number)
    took = []
    for report in program.reports():
        if report["report"] == "fired" and report["job"] in ended:
            took.append(max(0.0, report["at"] - ended.pop(report["job"])))
        if not ended:
            break
    return _summary(took)


def _summary(seconds: list[float]) -> dict[str, float]:
    return {
        "p50": median(seconds),
        "p99": sorted(seconds)[round(0.99 * (len(seconds) - 1))],
        "max": max(seconds),
        "count": len(seconds),
    }
