"""What Airflow pays for loading Airfreight: each import in a new interpreter that has imported Airflow."""

from __future__ import annotations

import json
import os
import subprocess
from statistics import median
from typing import TYPE_CHECKING, Any

from benches.tasks import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Everything of ours that some component of Airflow imports.
MODULES = ("airfreight.xcom", "airfreight.plugin", "airfreight.provider_info")

#: What every task process has loaded before it looks for the backend.
_AIRFLOW = ("airflow", "airflow.sdk", "airflow.sdk.bases.xcom", "airflow.sdk.configuration", "airflow.plugins_manager")

_PROGRAM = """
import importlib, json, sys, time
for name in {airflow!r}:
    importlib.import_module(name)
before = set(sys.modules)
start, processor = time.perf_counter(), time.process_time()
importlib.import_module({module!r})
wall, processor = time.perf_counter() - start, time.process_time() - processor
print(json.dumps({{"wall": wall, "processor": processor, "modules": sorted(set(sys.modules) - before)}}))
"""


def measure(rounds: int, scratch: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of each import by wall and by processor, and which modules it brought."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    found: dict[str, dict[str, Any]] = {name: {"wall": [], "processor": []} for name in MODULES}
    # The first round is not counted: it writes the byte code.
    for number in range(rounds + 1):
        for name in MODULES:
            say(f"import {name}, round {number} of {rounds}")
            result = subprocess.run(
                [ROOT / ".venv" / "bin" / "python", "-c", _PROGRAM.format(airflow=_AIRFLOW, module=name)],
                env=environment, cwd=scratch, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if result.returncode:
                found[name]["error"] = result.stderr.strip().rpartition("\n")[2]
                continue
            answer = json.loads(result.stdout.splitlines()[-1])
            found[name]["modules"] = answer["modules"]
            if number:
                found[name]["wall"].append(answer["wall"])
                found[name]["processor"].append(answer["processor"])
    for one in found.values():
        if one["wall"]:
            one["median"] = median(one["wall"])
    return found
