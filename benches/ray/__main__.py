"""
``make bench-ray``: measures, computes what was to be reached, and writes a table, JSON and a picture.

``python -m benches.ray --only cold --rounds 3`` does a part of it again; the results keep what was measured before
of the others, if that was on the same machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import machine
from benches.progress import Progress
from benches.ray import checkpoint, cold, crowd, ends, figures, logs, report, values, warm, weight
from benches.ray.rig import HERE, Rig

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is measured, in this order, and how many rounds it takes unless it is told.
BENCHES: dict[str, tuple[Callable[[Rig, int], dict[str, Any]], int]] = {
    "imports": (weight.imports, 4),
    "crowd": (crowd.measure, 1),
    "logs": (logs.measure, 3),
    "cold": (cold.measure, 4),
    "warm": (warm.measure, 2),
    "values": (values.measure, 5),
    "checkpoint": (checkpoint.measure, 5),
    "memory": (weight.memory, 1),
    "ends": (ends.measure, 3),
}


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # So that everything that was started is stopped on this way out, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = options.out
    results.mkdir(parents=True, exist_ok=True)
    say = Progress(sys.stderr)
    started = time.monotonic()
    measured: dict[str, Any] = {
        "command": "python -m benches.ray " + " ".join(sys.argv[1:] if arguments is None else arguments),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": machine.load(),
        "rounds": {},
        "benches": {},
        "errors": {},
        "took": {},
        "dates": {},
    }
    before = _before(results / "results.json", measured["machine"]) if options.only else None
    with Rig(say, options.airfreight) as rig:
        for name in options.only or BENCHES:
            measure, rounds = BENCHES[name]
            rounds = options.rounds or rounds
            began = time.monotonic()
            measured["rounds"][name] = rounds
            try:
                measured["benches"][name] = measure(rig, rounds)
                measured["dates"][name] = measured["date"]
            except Exception as error:  # the others may still be worth their time
                measured["errors"][name] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
            measured["took"][name] = round(time.monotonic() - began)
    if before is not None:
        _keep(measured, before)
    measured["load_after"] = machine.load()
    measured["seconds"] = round(time.monotonic() - started)
    measured["figures"] = [asdict(figure) for figure in figures.compute(measured["benches"])]
    say.end()
    (results / "results.json").write_text(json.dumps(measured, indent=1) + "\n")
    text = report.markdown(measured)
    (results / "results.md").write_text(text)
    report.chart(measured, results / "results.png")
    print(text)
    print(f"Also written: {results / 'results.md'}, {results / 'results.json'}, {results / 'results.png'}")
    return 1 if measured["errors"] else 0


def _before(path: Path, machine: dict[str, Any]) -> dict[str, Any] | None:
    """What was measured earlier on this machine."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if found["machine"] == machine else None


def _keep(measured: dict[str, Any], before: dict[str, Any]) -> None:
    """Adds the parts that weren't measured now."""
    dates = before.get("dates") or dict.fromkeys(before["benches"], before["date"])
    for part, old in (("benches", before["benches"]), ("rounds", before["rounds"]), ("dates", dates)):
        new = measured[part]
        measured[part] = {name: new.get(name, old.get(name)) for name in BENCHES if name in new or name in old}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.ray", description=__doc__)
    parser.add_argument("--only", action="append", choices=BENCHES, help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, help="how often each takes its turn (default: what each bench needs)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the results go")
    parser.add_argument(
        "--airfreight", type=Path, default=Path(shutil.which("airfreight", path=Path(sys.executable).parent) or ""),
        help="the `airfreight` program (default: that of this environment)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
