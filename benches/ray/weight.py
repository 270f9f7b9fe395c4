"""What the DAG processor and the workers carry: time, modules and memory of imports; memory of task processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from benches.ray.rig import ROOT, environment

if TYPE_CHECKING:
    from airflow_home import AirflowHome
    from benches.ray.rig import Rig

#: What a DAG file imports beyond Airflow's own.
MODULES = {
    "airfreight": ["airfreight.operators.ray", "airfreight.decorators", "airfreight.sensors.ray"],
    "astro": ["ray_provider.operators", "ray_provider.decorators"],
}
DAGS = ("bench_bash", "bench_memory")

_PROGRAM = """
import importlib, json, os, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before, memory = set(sys.modules), resident()
started, processor = time.perf_counter(), time.process_time()
for name in {modules!r}:
    importlib.import_module(name)
took, processor = time.perf_counter() - started, time.process_time() - processor
new = sorted(set(sys.modules) - before)
print(json.dumps({{"took": took, "processor": processor, "bytes": resident() - memory, "modules": new}}))
"""


def imports(rig: Rig, rounds: int) -> dict[str, Any]:
    """Each in a new interpreter that has loaded what every DAG file needs of Airflow."""
    found: dict[str, Any] = {name: {"took": [], "processor": [], "bytes": []} for name in rig.pythons}
    # The first round isn't counted: it writes byte code, and the files come from the disk.
    for number in range(rounds + 1):
        rig.say(f"imports: round {number} of {rounds}")
        for provider, python in rig.pythons.items():
            env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            ran = subprocess.run(
                [python, "-W", "ignore", "-c", _PROGRAM.format(modules=MODULES[provider])],
                env=env | environment(provider, "http://127.0.0.1:1"),
                cwd=ROOT, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if ran.returncode:
                found[provider]["error"] = ran.stderr.strip().rpartition("\n")[2]
                continue
            one = json.loads(ran.stdout.splitlines()[-1])
            found[provider]["modules"] = one["modules"]
            if number:
                for key in ("took", "processor", "bytes"):
                    found[provider][key].append(one[key])
    for one in found.values():
        if one["took"]:
            one["median"] = {key: median(one[key]) for key in ("took", "processor", "bytes")}
    return {"providers": found, "missing": rig.missing}


def memory(rig: Rig, rounds: int) -> dict[str, Any]:
    """The most resident and the most private memory of real task processes, in bytes."""
    found: dict[str, dict[str, list[int]]] = {}
    for number in range(rounds):
        for provider in rig.pythons:
            rig.say(f"memory of tasks: round {number + 1} of {rounds}, {provider}")
            airflow = rig.airflow(provider)
            with _Sampler() as sampler:
                runs = {dag_id: airflow.run(dag_id) for dag_id in DAGS}
            for task_id, pids in _processes(airflow, runs, sampler).items():
                series = found.setdefault(f"{provider}, {task_id}", {"resident": [], "private": []})
                series["resident"].append(max(one[0] for one in pids))
                series["private"].append(max(one[1] for one in pids))
    return {
        "bytes": found,
        "median": {name: {key: median(one[key]) for key in one} for name, one in found.items()},
        "missing": rig.missing,
    }


def _processes(airflow: AirflowHome, runs: dict[str, str], sampler: _Sampler) -> dict[str, list[tuple[int, int]]]:
    """A task that defers has more than one process."""
    found = {}
    for dag_id, run_id in runs.items():
        for instance in airflow.task_instances(dag_id, run_id):
            seen = [peak for (_, instance_id), peak in sampler.peaks.items() if instance_id == instance["id"]]
            if seen:
                found[instance["task_id"]] = seen
    return found


class _Sampler:
    """Looks at every task process of this machine, which has its task instance's id in its title."""

    TITLE = "airflow worker -- "
    SECONDS = 0.1

    def __init__(self) -> None:
        #: By process and task instance: resident and private bytes.
        self.peaks: dict[tuple[int, str], tuple[int, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self.SECONDS):
            for entry in Path("/proc").glob("[0-9]*"):
                # It may end meanwhile.
                with contextlib.suppress(OSError):
                    title = (entry / "cmdline").read_bytes().rstrip(b"\0 ").decode(errors="replace")
                    if not title.startswith(self.TITLE):
                        continue
                    key = int(entry.name), title.removeprefix(self.TITLE)
                    resident, private = _memory(entry)
                    before = self.peaks.get(key, (0, 0))
                    self.peaks[key] = max(before[0], resident), max(before[1], private)


def _memory(entry: Path) -> tuple[int, int]:
    """A forked process counts its parent's pages as its own; private are those that it has written to."""
    fields = {}
    for line in (entry / "smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    return fields["Rss"], fields["Private_Dirty"] + fields["Private_Clean"]
