"""
``make bench-apolo``: how late a triggerer's event loop is while it waits for many jobs at once, with their logs.

``python -m benches.apolo --jobs 20 --seconds 5`` does it in small. The platform is the tests' double, on the same
machine: its own work counts as load.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benches import machine
from benches.crowd import told

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from apolo_home import Platform  # noqa: E402 - it lives with the tests

LINES_PER_SECOND = 2


def main() -> int:
    options = _parser().parse_args()
    began = machine.load()
    with Platform.start() as platform:
        measured = _measure(platform, options.jobs, options.seconds)
    measured = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": began,
        "load_after": machine.load(),
        "jobs": options.jobs,
        "seconds": options.seconds,
        **measured,
    }
    page = _page(measured)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(measured, indent=1) + "\n")
    (options.out / "results.md").write_text(page)
    print(page)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.apolo", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100, help="how many are waited for at once")
    parser.add_argument("--seconds", type=float, default=30, help="how long each phase is looked at")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="where results go")
    return parser


def _measure(platform: Platform, count: int, seconds: float) -> dict[str, Any]:
    from airfreight._remote import ApoloClient

    client = ApoloClient(platform.token, api_url=platform.api_url)
    talking = [step for number in range(int(10 * seconds)) for step in _second(number)]
    command = "plan " + json.dumps([{"status": "running"}, *talking, {"sleep": 3600}])
    spec = {"image": "ubuntu", "command": command, "preset": "cpu-small"}
    jobs = [str(client.create(spec)["id"]) for _ in range(count)]
    with tempfile.TemporaryDirectory(prefix="airfreight-bench-home-") as home:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_APOLO_BENCH": platform.connection(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "NO_COLOR": "1",
        }
        program = subprocess.Popen(
            [sys.executable, "-m", "benches.apolo.crowd_process", json.dumps({"jobs": jobs})],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with program:
            lags = {}
            told(program, "ready", go_on=False)
            for phase in ("nothing", "beginning", "running"):
                time.sleep(seconds)
                if phase == "running":
                    # One after the other would be a crowd that comes in single file.
                    ended = {job: _end(platform, job) for job in jobs}
                lags[phase] = told(program, phase, go_on=True)
            lags["ending"] = told(program, "ending", go_on=False)
    fired = lags["ending"].pop("fired")
    took = sorted(fired[job] - ended[job] for job in jobs)
    return {"lags": lags, "noticed": {"p50": median(took), "max": took[-1]}}


def _second(number: int) -> list[dict[str, Any]]:
    return [{"log": "\n".join([f"line {number}"] * LINES_PER_SECOND)}, {"sleep": 1}]


def _end(platform: Platform, job: str) -> float:
    platform.end(job, status="succeeded", exit_code=0)
    return time.time()


def _page(measured: dict[str, Any]) -> str:
    about = "\n".join(f"| {name} | {value} |" for name, value in measured["machine"].items())
    words = {
        "nothing": "no trigger",
        "beginning": "all begin at once, and then run",
        "running": "all run, then all jobs end within a moment",
        "ending": "the rest of the logs, and the events",
    }
    rows = "\n".join(
        f"| {words[name]} | {1000 * lag['p50']:.1f} | {1000 * lag['p99']:.1f} | {1000 * lag['max']:.1f} "
        f"| {1000 * lag['busy']:.1f} |"
        for name, lag in measured["lags"].items()
    )
    return f"""# Waiting for {measured["jobs"]} jobs on Apolo in one event loop

`python -m benches.apolo --jobs {measured["jobs"]} --seconds {measured["seconds"]:g}`, {measured["date"]}; load before
{measured["load_before"]:.1f}, after {measured["load_after"]:.1f}. Each job writes {LINES_PER_SECOND} lines a second,
and is asked for every 5 seconds. A coroutine that sleeps 20 ms again and again went on so many milliseconds too late;
*busy* is the most processor time that the loop's thread took meanwhile, whatever else the machine did:

| phase | p50 | p99 | max | busy |
|---|---|---|---|---|
{rows}

The event of a job's trigger came {measured["noticed"]["p50"]:.1f} s after its end (p50; at most
{measured["noticed"]["max"]:.1f} s), of which its log has 5 to say its last words.

| machine | |
|---|---|
{about}
"""


if __name__ == "__main__":
    sys.exit(main())
