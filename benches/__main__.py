"""
``make bench``: measures, computes what was to be reached, and writes a table, JSON and a picture.

``python -m benches --quick`` does all of it in seconds on small values, to prove that it still works.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benches import figures, imports, machine, peers, report, rounds, venvs
from benches.peers.airfreight import AirfreightElsewhere
from benches.progress import Progress
from benches.tasks import ROOT, MissingPeerError, Worker, worker
from benches.values import CASES, QUICK_CASES, Case

#: Who is measured in new interpreters, too: only Airfreight for most values.
_HELD_IN_INTERPRETERS = ("airfreight", "airfreight_empty_pool", "vineyard", "ray")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # So that servers are stopped and shared memory is given back on this way out, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cases = [
        case for case in (QUICK_CASES if options.quick else CASES) if not options.case or case.name in options.case
    ]
    results = options.out or (ROOT / "benches" / "results")
    results.mkdir(parents=True, exist_ok=True)
    say = Progress(sys.stderr)
    started = time.monotonic()
    measured: dict[str, Any] = {
        "command": "python -m benches " + " ".join(sys.argv[1:] if arguments is None else arguments),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": machine.load(),
        "rounds": options.rounds or (1 if options.quick else 5),
    }
    if options.store_dir:
        os.environ[AirfreightElsewhere.variable] = str(options.store_dir.resolve())
        measured["machine"][str(options.store_dir)] = machine.mount(options.store_dir)
    # In shared memory, like the stores themselves; what doesn't use it costs nothing there.
    scratch = Path(tempfile.mkdtemp(prefix="airfreight-bench-", dir="/dev/shm"))
    # On a disk, where Airflow's home usually is: the backend keeps its key there.
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airfreight-bench-home-")
    try:
        measured |= _measure(cases, options, measured["rounds"], scratch, say)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(os.environ.pop("AIRFLOW_HOME"), ignore_errors=True)
    measured["load_after"] = machine.load()
    measured["seconds"] = round(time.monotonic() - started)
    measured["figures"] = [asdict(figure) for figure in figures.compute(measured)]
    say.end()
    (results / "results.json").write_text(json.dumps(measured, indent=1) + "\n")
    text = report.markdown(measured)
    (results / "results.md").write_text(text)
    report.chart(measured, results / "results.png")
    print(text)
    print(f"Also written: {results / 'results.md'}, {results / 'results.json'}, {results / 'results.png'}")
    return 0


def _measure(
    cases: list[Case], options: argparse.Namespace, count: int, scratch: Path, say: Progress
) -> dict[str, Any]:
    with ExitStack() as stack:
        elsewhere = () if options.store_dir else ("airfreight_elsewhere", "airfreight_elsewhere_empty_pool")
        chosen = options.peer or [name for name in peers.NAMES if name not in elsewhere]
        workers, found = _start(chosen, scratch, stack, say, is_quick=options.quick)
        measured: dict[str, Any] = {"peers": found, "cases": {}, "hot_loop": {}}
        for case in cases:
            # A gigabyte takes longer and varies less.
            repeat = max(1, count - 2) if case.nbytes > 500_000_000 else count
            one: dict[str, Any] = {"label": case.label, "nbytes": case.nbytes}
            if case.is_large or options.quick:
                one["memory"] = rounds.memory(workers, case, say)
            one["new"] = _plain(rounds.in_new_processes(workers, case, repeat, say))
            held = _HELD_IN_INTERPRETERS if case.name == "array_100mb" else _HELD_IN_INTERPRETERS[:1]
            chosen_ones = [worker for worker in workers if worker.name in held]
            one["interpreter"] = _plain(
                rounds.in_new_processes(chosen_ones, case, repeat, say, is_new_interpreter=True)
            )
            one["warm"] = _plain(rounds.in_warm_processes(workers, case, repeat, say))
            measured["cases"][case.name] = one
            if case.kind == "dict":
                times = 20 if options.quick else 1000
                measured["hot_loop"] = _plain(rounds.hot_loop(workers, case, count, times, say))
        measured["imports"] = imports.measure(count, scratch, say) if "airfreight_xcom" in chosen else {}
        return measured


def _start(
    names: Iterable[str], scratch: Path, stack: ExitStack, say: Progress, *, is_quick: bool
) -> tuple[list[Worker], dict[str, Any]]:
    """Every peer that can take part, and what is known of all; those that can't are reported with the reason."""
    workers: list[Worker] = []
    found: dict[str, Any] = {}
    for name in names:
        peer = peers.load(name)
        found[name] = {"label": peer.label, "is_limit": peer.is_limit, "missing": None, "versions": {}}
        say(f"starting {peer.label}")
        try:
            if not is_quick:
                venvs.install(peer, say)
            started = stack.enter_context(worker(name, peer, scratch / name))
        except (MissingPeerError, RuntimeError, OSError) as error:
            found[name]["missing"] = str(error)
            continue
        found[name]["versions"] = started.versions
        workers.append(started)
    return workers, found


def _plain(series: dict[str, rounds.Series]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in series.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small values, one round, only the environments there are")
    parser.add_argument("--rounds", type=int, help="how often each peer takes its turn (default 5)")
    parser.add_argument("--peer", action="append", choices=peers.NAMES, help="only this one; may be repeated")
    parser.add_argument("--case", action="append", help="only this value, such as array_100mb; may be repeated")
    parser.add_argument(
        "--store-dir", type=Path, help="measure Airfreight in this folder as well, such as a tmpfs with huge pages"
    )
    parser.add_argument("--out", type=Path, help="where the results go (default benches/results)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
