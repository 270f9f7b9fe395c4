"""What was to be reached, beside what was measured in the same run."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benches.figures import TIMES, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1_000_000
CROWD = "airfreight, 1000 jobs"
LOGS = "airfreight, 1000 jobs, logs wanted"
LINES = "no triggers, 100 lines logged a second"


def compute(benches: dict[str, Any]) -> list[Figure]:
    """Those of the benches that have run."""
    by_bench = {
        "ends": _ends, "crowd": _crowd, "imports": _imports, "memory": _memory, "cold": _cold, "warm": _warm,
        "logs": _logs,
        "values": _values, "checkpoint": _checkpoint,
    }  # fmt: skip
    return [figure for name, of in by_bench.items() if name in benches for figure in of(benches[name])]


def _ends(found: dict[str, Any]) -> Iterator[Figure]:
    medians = found["median"]
    for way, text in (("deferred", "deferred"), ("worker", "waiting in the worker")):
        alone = medians.get(f"moment in airfreight's Airflow, {way}")
        beyond = _minus(medians.get(f"airfreight, {way}"), alone)
        yield Figure(f"end of the Ray job to the end of its task, {text}, beyond Airflow's own", "s", 1, True, beyond)


def _crowd(found: dict[str, Any]) -> Iterator[Figure]:
    crowds = found["crowds"]
    for label in (CROWD, LOGS):
        one = crowds.get(label, {})
        name = label.partition(", ")[2]
        cpu, beyond = one.get("processor_share"), ""
        if label == LOGS:
            # Airflow's logger takes as long for a line wherever it comes from.
            cpu = _minus(cpu, crowds.get(LINES, {}).get("processor_share"))
            beyond = ", beyond logging the 100 lines a second"
        yield Figure(f"{name}: processor time of the triggerer{beyond}", "% of a core", 5, True, _times(cpu, 100))
        lag = one.get("lag", {}).get("p99")
        yield Figure(f"{name}: lag of the event loop, p99", "ms", 50, True, _times(lag, 1e3))
        # An end among so many may be noticed 5 s late; who asks more often asks in vain.
        lists = one.get("traffic", {})
        per_interval = None if not lists else 5 / (lists["seconds_between_lists"] or 5)
        yield Figure(f"{name}: lists in the 5 s within which an end is to be noticed", "", 2, True, per_interval)
        yield Figure(f"{name}: connections at a time", "", 8, True, one.get("traffic", {}).get("open_max"))
    submit = crowds.get(LOGS, {}).get("submit", {})
    for key, text in (("p50", "median"), ("p99", "p99")):
        name = f"{LOGS.partition(', ')[2]}: submit meanwhile, {text}"
        yield Figure(name, "ms", 50, True, _times(submit.get(key), 1e3))
    for label, target in ((CROWD, 5), ("airfreight, 50 jobs", 1)):
        late = crowds.get(label, {}).get("notice", {}).get("max")
        yield Figure(f"{label.partition(', ')[2]}: an end is noticed after at most", "s", target, True, late)


def _imports(found: dict[str, Any]) -> Iterator[Figure]:
    took = found["providers"]["airfreight"].get("median", {}).get("took")
    yield Figure("importing operators and decorators after `airflow.sdk`", "ms", 50, True, _times(took, 1e3))


def _memory(found: dict[str, Any]) -> Iterator[Figure]:
    medians = found["median"]
    bash = medians.get("airfreight, bash", {})
    for task, text in (("submit", "`SubmitRayJob`"), ("decorated", "`@task.ray`")):
        more = _minus(medians.get(f"airfreight, {task}", {}).get("resident"), bash.get("resident"))
        yield Figure(
            f"{text}: resident memory of its task beyond a BashOperator's", "MB", 30, True, _times(more, 1 / MB)
        )


def _cold(found: dict[str, Any]) -> Iterator[Figure]:
    medians = found["median"]
    ours, naive = medians.get("@task.ray"), medians.get("naive script")
    yield Figure("cold `@task.ray`, submit to value ÷ the naive script's job", TIMES, 0.8, True, _ratio(ours, naive))
    command = medians.get("naive script by `ray job submit`")
    yield Figure("cold `@task.ray`, submit to value ÷ `ray job submit` of it", TIMES, 0.8, True, _ratio(ours, command))


def _warm(found: dict[str, Any]) -> Iterator[Figure]:
    # Median and 95th percentile in ms, with an open connection and from a fresh process.
    for name, opened, fresh in (("own port", (8, 20), 60), ("dashboard alone", (30, 100), 120)):
        middle, p95 = found["median"], found["p95"]
        way = f"{name}, open connection"
        yield Figure(f"warm, {way}: submit to value, median", "ms", opened[0], True, _times(middle.get(way), 1e3))
        yield Figure(f"warm, {way}: submit to value, p95", "ms", opened[1], True, _times(p95.get(way), 1e3))
        way = f"{name}, fresh process"
        yield Figure(f"warm, {way}: submit to value, median", "ms", fresh, True, _times(middle.get(way), 1e3))
        way = f"{name}, after 15 s idle"
        yield Figure(f"warm, {way}: submit to value, median", "ms", 2 * opened[0], True, _times(middle.get(way), 1e3))
    yield Figure("warm, own port: calls of 16 clients", "a second", 100, False, found["per_second"].get("own port"))


def _logs(found: dict[str, Any]) -> Iterator[Figure]:
    medians, ways = found["median"], found["ways"]
    theirs = medians.get("Ray's tail_job_logs")
    for name in ("watch, worker", "watch, trigger", "watch, by the dashboard alone", "`airfreight ray logs`"):
        yield Figure(
            f"100 MB of log, {name}: times faster than Ray's client", TIMES, 3, False, _ratio(theirs, medians.get(name))
        )
        complete = ways.get(name, {}).get("is_complete")
        yield Figure(
            f"100 MB of log, {name}: rounds that were complete",
            "%",
            100,
            False,
            complete and 100 * sum(complete) / len(complete),
        )
        grown = ways.get(name, {}).get("grown_bytes")
        yield Figure(f"100 MB of log, {name}: memory for it", "MB", 30, True, grown and max(grown) / MB)


def _values(found: dict[str, Any]) -> Iterator[Figure]:
    medians = found["median"]
    for direction, text in (("send", "local to Ray"), ("fetch", "Ray to local")):
        share = _ratio(medians.get("raw TCP"), medians.get(f"{direction}, port"))
        yield Figure(f"1 GB {text} over the runner's port ÷ a raw copy over loopback", TIMES, 1 / 3, False, share)
        for side in ("worker", "cluster"):
            grown = found["memory"].get(f"{direction}, port, {side}")
            yield Figure(
                f"1 GB {text} over the runner's port: private memory, {side}", "MB", 64, True, grown and max(grown) / MB
            )
    over = found["hand_over"]
    beyond = _minus(median(over["beyond"]), median(over["nothing"]))
    yield Figure("1 GB from one Ray task to the next, beyond a task that takes nothing", "ms", 20, True, beyond * 1e3)


def _checkpoint(found: dict[str, Any]) -> Iterator[Figure]:
    medians = found["median"]
    theirs = _minus(medians.get("aws s3 cp"), medians.get("aws s3 cp, nothing"))
    share = _ratio(theirs, medians.get("airfreight"))
    yield Figure("1 GB to a local S3 server ÷ the AWS CLI without its start", TIMES, 0.8, False, share)


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _times(one: float | None, factor: float) -> float | None:
    return None if one is None else one * factor


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other
