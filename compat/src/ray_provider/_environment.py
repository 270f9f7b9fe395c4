"""The environment variables that ``airflow-provider-ray`` read."""

from __future__ import annotations

import os
import warnings

#: What the old backend connected to when nobody said otherwise, whatever the decorator was told.
DEFAULT_CONNECTION = "ray_cluster_connection"
DEFAULT_STORE = "ray_kv_store"

_WITHOUT_EFFECT = {
    "ray_store_identifier": "values travel through Airfreight's store, and no actor has to be named",
    "CHECKPOINTING_CLOUD_STORAGE": "a task that runs again reads what the tasks above it returned; nothing has to be "
    "brought back from a bucket first",
}
_said: set[str] = set()


def connection() -> str:
    """The connection of tasks that name none."""
    return os.environ.get("ray_cluster_conn_id", DEFAULT_CONNECTION)  # noqa: SIM112 - its name


def explain() -> None:
    """Say once of each variable that is set without effect why it has none."""
    for name, why in _WITHOUT_EFFECT.items():
        if os.environ.get(name) and name not in _said:
            _said.add(name)
            warnings.warn(f"{name} has no effect: {why}", UserWarning, stacklevel=3)
