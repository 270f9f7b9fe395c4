"""
``make bench-agent``: agents of two hosts, which are network namespaces on this machine; needs root and iperf3.

``transfer`` is 1 GB beside iperf3, ``peers`` values beside vineyard and Ray (vineyard wants etcd; what isn't here is
reported as missing), ``crowd`` many readers at once, ``idle`` what an agent takes that nobody asks. Writes a table and
JSON. ``python -m benches.agent --only transfer --rounds 3`` does a part of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benches import machine
from benches.agent import hosts, measure
from benches.figures import TIMES, Figure
from benches.progress import Progress
from benches.report import figures_table, shown, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BENCHES: dict[str, Callable[[Callable[[str], None], int], dict[str, Any]]] = {
    "transfer": measure.transfer,
    "peers": hosts.exchange,
    "crowd": measure.crowd,
    "idle": measure.idle,
}
HERE = Path(__file__).resolve().parent
MB = measure.MB


def main() -> int:
    options = _parser().parse_args()
    say = Progress(sys.stderr)
    measured: dict[str, Any] = {
        "command": "python -m benches.agent " + " ".join(sys.argv[1:]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": machine.load(),
        "rounds": options.rounds,
        "benches": {},
        "errors": {},
    }
    for name in options.only or BENCHES:
        try:
            measured["benches"][name] = BENCHES[name](say, options.rounds)
        except Exception as error:  # the others may still be worth their time
            measured["errors"][name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    measured["load_after"] = machine.load()
    measured["figures"] = [asdict(figure) for figure in _figures(measured["benches"])]
    say.end()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps(measured, indent=1) + "\n")
    text = _markdown(measured)
    (options.out / "results.md").write_text(text)
    print(text)
    return 1 if measured["errors"] else 0


def _figures(benches: dict[str, Any]) -> Iterator[Figure]:
    if found := benches.get("transfer"):
        raw = found["median"]["iperf3"]
        for way, target in (("plain", 0.8), ("TLS", 0.5)):
            share = raw / found["median"][way]
            yield Figure(f"1 GB from host to host, {way} ÷ iperf3 by one stream", TIMES, target, False, share)
            for side in ("agent", "reader"):
                grown = max(found["memory"][f"{way}, {side}"]) / MB
                yield Figure(f"1 GB from host to host, {way}: private memory, {side}", "MB", 32, True, grown)
    if found := benches.get("crowd"):
        name = f"{measure.READERS} readers of {measure.OBJECTS} objects at once"
        yield Figure(f"{name}: p99 ÷ median", TIMES, 5, True, found["p99"] / found["median"])
    if found := benches.get("idle"):
        yield Figure("idle: resident memory", "MB", 15, True, found["resident_bytes"] / MB)
        yield Figure("idle: wake-ups", "a second", 1, True, found["wakes_per_second"])
        yield Figure(f"{measure.LISTED:,} objects: start", "s", 2, True, found["start_seconds"])
        yield Figure(f"{measure.LISTED:,} objects: a page of the list", "ms", 50, True, found["page_seconds"] * 1e3)


def _markdown(measured: dict[str, Any]) -> str:
    lines = "\n".join(f"| {name} | {value} |" for name, value in measured["machine"].items())
    parts = [
        f"""# Benchmarks of the agent

`{measured["command"]}`, {measured["date"]}, {measured["rounds"]} rounds; load before {measured["load_before"]:.1f},
after {measured["load_after"]:.1f} (the benchmark's own processes count).

| machine | |
|---|---|
{lines}

Hosts are network namespaces with a bridge between them; both ends share the cores.""",
        "## Figures to reach\n\n" + figures_table(measured["figures"]),
    ]
    benches = measured["benches"]
    if found := benches.get("transfer"):
        rows = [
            [way, *(shown(of(took)) for of in (median, min, max)), shown(found["first"].get(way))]
            for way, took in found["seconds"].items()
        ]
        about = "Into a store that has held as much before; *first*: into a new one, whose memory must be made."
        parts += ["## 1 GB from host to host", about, table(["", "median", "least", "most", "first"], rows)]
        cpu = [[name, shown(median(took))] for name, took in found["cpu"].items()]
        parts += ["Processor time for it:", table(["", "median"], cpu)]
    if found := benches.get("peers"):
        parts += _peers(found)
    if found := benches.get("crowd"):
        grown = max(found["grown_bytes"]) / MB
        parts.append(
            f"## {measure.READERS} readers at once\n\n{measure.OBJECTS} objects of 1 MB, a connection each: median "
            f"{shown(found['median'])}, p99 {shown(found['p99'])}; private memory of the agent: {grown:.0f} MB."
        )
    if found := benches.get("idle"):
        parts.append(
            f"## {measure.LISTED:,} objects\n\nStart {shown(found['start_seconds'])}, the first page "
            f"{shown(found['first_page_seconds'])}, a later one of {found['page_objects']} "
            f"{shown(found['page_seconds'])}; resident {found['full_resident_bytes'] / MB:.0f} MB; idle and empty "
            f"{found['resident_bytes'] / MB:.1f} MB, of which {found['private_bytes'] / MB:.1f} MB are private."
        )
    parts += [f"**{name} failed**: {error}" for name, error in measured["errors"].items()]
    return "\n\n".join(parts) + "\n"


def _peers(found: dict[str, Any]) -> Iterator[str]:
    yield """## Values from host to host

A process on one host puts, one on the other gets; both are connected, and have passed on a value of that size before.
*get* ends with the value in hand, *+ read* once all of it was read, which is held against what Airfreight and what
iperf3's single stream need. Memory is what the getting process and the servers of both hosts took beyond what they had,
stores not counted."""
    for case in found["cases"].values():
        raw = median(case["iperf3"])
        ours = case["peers"].get("airfreight", {}).get("median", {}).get("get_touch")
        rows = []
        for name, about in found["peers"].items():
            series = case["peers"].get(name, {"error": about["missing"], "median": {}, "changed": None, "memory": {}})
            if series["error"]:
                verdict = "missing" if about["missing"] else "**fails**"
                rows.append([about["label"], verdict, *[""] * 6, " ".join(series["error"].split())])
                continue
            times = series["median"]
            rows.append(
                [
                    about["label"],
                    *(shown(times[step]) for step in ("put", "get", "get_touch")),
                    *(f"{times['get_touch'] / least:.2f}" if least else "" for least in (ours, raw)),
                    *(f"{max(series['memory'][side]) / MB:.0f} MB" for side in ("reader", "servers")),
                    f"changed: {series['changed']}" if series["changed"] else "exact",
                ]
            )
        columns = ["", "put", "get", "+ read", "÷ Airfreight", "÷ iperf3", "memory, reader", "servers", ""]
        yield f"### {case['label']}\n\niperf3 moves as many bytes in {shown(raw)}.\n\n" + table(columns, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.agent", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHES, help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn (default: 5)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the results go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
