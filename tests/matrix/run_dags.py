"""
Runs the test DAGs by ``dag.test()`` in this interpreter, whatever version of Airflow it has.

``--before`` makes runs with Airflow's own backend and notes their ids, ``--after`` runs everything with Airfreight and
reads those as well.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

DAGS = Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
LOOP = DAGS / "xcom_loop.py"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run(dag: Any, **arguments: Any) -> str:
    """Runs a DAG to success; gives the id of the run."""
    done = dag.test(**arguments)
    state = str(getattr(done.state, "value", done.state))
    if state != "success":
        sys.exit(f"DAG {dag.dag_id} ended as {state}")
    return str(done.run_id)


def stored(task_id: str) -> list[str]:
    """The ids of the objects under every name that a task has in the store."""
    from airfreight._store import Store

    store = Store(os.environ["AIRFLOW__AIRFREIGHT__STORE_PATH"], create=False)
    described = [store.describe(name) for name in store.names()]
    return [each["id"] for each in described if each["metadata"]["owner"]["task_id"] == task_id]


def before(notes: Path) -> None:
    elsewhere = load(DAGS / "xcom_elsewhere.py")
    notes.write_text(json.dumps([run(elsewhere.source)]), encoding="utf-8")


def after(notes: Path) -> None:
    from airflow import __version__
    from airflow.sdk.execution_time.xcom import XCom

    assert XCom.__name__ == "AirfreightXCom"
    elsewhere = load(DAGS / "xcom_elsewhere.py")
    again = load(DAGS / "xcom_again.py")
    run_ids = [*json.loads(notes.read_text(encoding="utf-8")), run(elsewhere.source)]
    for run_id in run_ids:
        run(elsewhere.reader, run_conf={"run_id": run_id})
    run(load(DAGS / "xcom_values.py").flow)
    run(load(DAGS / "xcom_mapping.py").flow)
    run(again.again)
    run(again.branch)
    # Up to 3.3 the second try purges what the first one pushed; from 3.4 on it stays until it expires.
    major, minor = (int(part) for part in __version__.split(".")[:2])
    retried, split = stored("retried"), stored("split")
    assert len(retried) == (2 if (major, minor) < (3, 4) else 3), retried
    assert (len(split), len(set(split))) == (4, 2), "two parts, and the whole is made of them"
    if LOOP.exists():
        run(load(LOOP).flow)


if __name__ == "__main__":
    {"--before": before, "--after": after}[sys.argv[1]](Path(sys.argv[2]))
