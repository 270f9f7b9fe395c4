"""The environment variables that ``airflow-provider-ray`` read."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

log = logging.getLogger(__name__)

#: What the old package connected to when the environment said nothing, whatever the decorator was told.
DEFAULT_CONNECTION = "ray_cluster_connection"
DEFAULT_STORE = "ray_kv_store"

_WITHOUT_EFFECT = {
    "ray_store_identifier": "values travel through Airfreight's store, and no actor has to be named",
    "CHECKPOINTING_CLOUD_STORAGE": "a task that runs again reads what the tasks above it returned; nothing has to be "
    "brought back from a bucket first",
}
_said: set[str] = set()


def connection() -> str:
    """The connection that the old package used."""
    return os.environ.get("ray_cluster_conn_id", DEFAULT_CONNECTION)  # noqa: SIM112 - its name


def explain() -> None:
    """Say once of each variable that is set without effect why it has none."""
    for name, why in _WITHOUT_EFFECT.items():
        if os.environ.get(name) and name not in _said:
            _said.add(name)
            warnings.warn(f"{name} has no effect: {why}", UserWarning, stacklevel=3)


class Connection:
    """
    The configuration of a task: its connection, chosen when the task runs.

    The old decorator ignored what it was told, so DAG files name connections that were never defined.

    :param said: the connection that the DAG file names; ``None`` if it names none.
    """

    def __init__(self, said: str | None) -> None:
        self.said = said

    def __call__(self) -> dict[str, Any]:
        from airfreight.hooks.ray import RayHook

        default = RayHook.default_conn_name
        candidates = [self.said, connection(), DEFAULT_CONNECTION, default]
        chosen = next((each for each in candidates if each is not None and _is_defined(each)), None)
        if chosen is None:
            has_address = os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_URL")
            # Of which the error says that it is missing.
            chosen = default if self.said is None or has_address else self.said
        if self.said is not None and chosen != self.said:
            log.info("connection `%s` isn't defined, using `%s`", self.said, chosen)
        return {"conn_id": chosen}


def _is_defined(conn_id: str) -> bool:
    from airflow.exceptions import AirflowNotFoundException  # type: ignore[attr-defined]

    from airfreight.hooks.ray import RayHook

    try:
        RayHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return False
    return True
