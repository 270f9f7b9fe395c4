"""
``make bench-kube``: what it takes of a triggerer to wait for many Ray clusters on Kubernetes at once.

``python -m benches.kube --clusters 20 --seconds 5`` does it in small. The API server is the tests' own, on the same
machine, in a process of its own whose work does not count.
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

from ray_home.kube_server import NAMESPACE, KubeServer, description  # noqa: E402 - it lives with the tests

#: Of a core, for 200 clusters.
LIMIT = 0.05


def main() -> int:
    options = _parser().parse_args()
    began = machine.load()
    with KubeServer.start("--script", "unseen") as kube:
        measured = _measure(kube, options.clusters, options.seconds)
    measured = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "load_before": began,
        "load_after": machine.load(),
        "clusters": options.clusters,
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
    parser = argparse.ArgumentParser(prog="python -m benches.kube", description=__doc__)
    parser.add_argument("--clusters", type=int, default=200, help="how many are waited for at once")
    parser.add_argument("--seconds", type=float, default=30, help="how long each phase is looked at")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="where results go")
    return parser


def _measure(kube: KubeServer, count: int, seconds: float) -> dict[str, Any]:
    clusters = []
    for number in range(count):
        name = f"cluster-{number}"
        kube.control("POST", f"/objects/rayclusters/{NAMESPACE}", description(name))
        clusters.append({"namespace": NAMESPACE, "name": name, "uid": ""})
    with tempfile.TemporaryDirectory(prefix="airfreight-bench-home-") as home:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            "AIRFLOW_HOME": home,
            "AIRFLOW_CONN_KUBE_BENCH": json.dumps(
                {"conn_type": "ray", "extra": {"kube_config_path": str(kube.kubeconfig)}}
            ),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "NO_COLOR": "1",
        }
        program = subprocess.Popen(
            [sys.executable, "-m", "benches.kube.crowd_process", json.dumps({"clusters": clusters})],
            cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with program:
            phases = {}
            told(program, "ready", go_on=False)
            for phase in ("nothing", "beginning", "waiting"):
                time.sleep(seconds)
                phases[phase] = told(program, phase, go_on=True)
            # Each cluster changes once.
            for number in range(count):
                _become(kube, f"cluster-{number}", head=False)
                time.sleep(seconds / count)
            phases["changing"] = told(program, "changing", go_on=True)
            ended = {}
            for number in range(count):
                name = f"cluster-{number}"
                ended[name] = _become(kube, name, head=True)
                time.sleep(0.02)
            fired = told(program, "ending", go_on=False)["fired"]
    took = sorted(fired[name] - ended[name] for name in ended)
    return {"phases": phases, "noticed": {"p50": median(took), "max": took[-1]}}


def _become(kube: KubeServer, name: str, *, head: bool) -> float:
    cluster = kube.object(name)
    assert cluster is not None
    word = "True" if head else "False"
    cluster["status"] = {
        "observedGeneration": cluster["metadata"]["generation"],
        "conditions": [{"type": kind, "status": word} for kind in ("HeadPodReady", "RayClusterProvisioned")],
    }
    kube.control("POST", f"/objects/rayclusters/{NAMESPACE}", cluster)
    return time.time()


def _page(measured: dict[str, Any]) -> str:
    about = "\n".join(f"| {name} | {value} |" for name, value in measured["machine"].items())
    words = {
        "nothing": "no trigger",
        "beginning": "all begin to watch",
        "waiting": "all watch, nothing changes",
        "changing": "all watch, each cluster changes once",
    }
    rows = "\n".join(
        f"| {words[name]} | {phase['seconds']:.0f} | {phase['processor']:.2f} "
        f"| {100 * phase['processor'] / phase['seconds']:.1f} % | {phase['peak_bytes'] / 1e6:.0f} |"
        for name, phase in measured["phases"].items()
    )
    return f"""# Waiting for {measured["clusters"]} Ray clusters on Kubernetes in one event loop

`python -m benches.kube --clusters {measured["clusters"]} --seconds {measured["seconds"]:g}`, {measured["date"]}; load
before {measured["load_before"]:.1f}, after {measured["load_after"]:.1f}. The limit for the third phase is
{100 * LIMIT:.0f} % of a core.

| phase | seconds | processor, s | of a core | most memory, MB |
|---|---|---|---|---|
{rows}

A trigger fired {1000 * measured["noticed"]["p50"]:.0f} ms after its cluster was ready (p50; at most
{1000 * measured["noticed"]["max"]:.0f} ms).

| machine | |
|---|---|
{about}
"""


if __name__ == "__main__":
    sys.exit(main())
