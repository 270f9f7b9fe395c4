"""
What Airflow's Python knows of the set-up, as one line of JSON: ``airfreight doctor`` runs this and judges it.

It only looks: no key is made, no store opened, no connection used.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from airfreight.errors import AirfreightError

BACKEND = "airfreight.xcom.AirfreightXCom"


def facts() -> dict[str, Any]:
    """Everything that :command:`airfreight doctor` asks of Airflow's side."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "airfreight": _version("airfreight"),
        "airflow": _version("apache-airflow-core") or _version("apache-airflow"),
        "provider": any(e.dist and e.dist.name == "airfreight" for e in entry_points(group="apache_airflow_provider")),
    }
    if found["airflow"] is None:
        return found
    from airflow.configuration import AIRFLOW_CONFIG, AIRFLOW_HOME, conf

    found["home"] = AIRFLOW_HOME
    found["configuration"] = AIRFLOW_CONFIG
    found["executor"] = conf.get("core", "executor", fallback="LocalExecutor")
    found["backend"] = _backend(conf.get("core", "xcom_backend", fallback=""))
    found |= _settings()
    return found


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _backend(path: str) -> dict[str, Any]:
    """The XCom backend: its path, whether it is ours, and what happens when Airflow imports it."""
    module, _, name = path.rpartition(".")
    try:
        backend = getattr(importlib.import_module(module), name)
        ours = getattr(importlib.import_module("airfreight.xcom"), "AirfreightXCom")  # noqa: B009 - as Airflow does
    except Exception as error:  # noqa: BLE001 - whatever it is, doctor tells it
        return {"path": path, "ours": path == BACKEND, "error": f"{type(error).__name__}: {error}"}
    return {"path": path, "ours": isinstance(backend, type) and issubclass(backend, ours), "error": None}


def _settings() -> dict[str, Any]:
    from airfreight.settings import load_settings, problems

    wrong = problems()
    if wrong:
        return {"problems": [_problem(error) for error in wrong]}
    settings = load_settings()
    names = ("store_path", "capacity_bytes", "spill_path", "spill_capacity_bytes", "pool_bytes", "ttl_hours")
    return {
        "problems": [],
        "settings": {name: getattr(settings, name) for name in (*names, "shared_store", "mapping", "api_url")},
        "key": _key(settings.secret_key),
    }


def _key(configured: tuple[bytes, ...] | None) -> dict[str, Any]:
    """Where the key that signs references comes from; the key itself stays here."""
    from airfreight._store import key_fingerprint
    from airfreight.keys import default_path, filesystem_type, key_from_file

    if configured:
        return {"source": "configuration", "fingerprints": [key_fingerprint(key) for key in configured]}
    path = default_path()
    found: dict[str, Any] = {"source": "file", "path": str(path), "exists": os.path.lexists(path)}
    if found["exists"]:
        try:
            found["fingerprints"] = [key_fingerprint(key_from_file(path))]
        except AirfreightError as error:
            found["problem"] = _problem(error)
    else:
        parent = path.parent
        found["writable"] = os.access(parent if parent.exists() else parent.parent, os.W_OK)
    found["file_system"] = filesystem_type(path.parent)
    return found


def _problem(error: AirfreightError) -> dict[str, str | None]:
    return {"message": error.message, "hint": error.hint}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(facts()) + "\n")
