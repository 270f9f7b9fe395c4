"""
What one process has made of the configuration: settings, keys, the open store, and the task that runs in it.

A task is a bare fork of a worker that has imported this already, so everything is made on first use and anew when the
process id has changed.
"""

from __future__ import annotations

import logging
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight.errors import InvalidError
from airfreight.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airfreight._remote import Agent
    from airfreight._store import Store
    from airfreight.deferral import Deferral
    from airfreight.ray.plane import Cluster
    from airfreight.references import Row

log = logging.getLogger(__name__)

#: A value that was replaced stays for a while, for tasks that read its row just before.
_REPLACED_SECONDS = 600.0

_SWEEP_LIMIT = 32


class Push(NamedTuple):
    """A value that this process has just written, with its row."""

    key: str | None
    value: Any
    row: Row


class Process:
    """The state of one process; reach it through :func:`here`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        #: The task that runs; not yet known while its arguments are resolved.
        self.task_instance: Any = None
        #: The writes of a ``multiple_outputs`` task, in order: what its whole dict may be made of.
        self.pushes: list[Push] = []
        #: The buckets of checkpoints, by what the settings or tasks call them.
        self.buckets: dict[str, Any] = {}
        #: The agents of other hosts, by their URLs and how long they are waited for.
        self.agents: dict[tuple[str, float], Agent] = {}
        #: When agents of other hosts were last found missing, by their URLs.
        self.absent: dict[str, float] = {}
        self._written: dict[str | None, list[str]] = {}
        #: The Ray clusters that values were fetched from, by connection and dashboard.
        self.clusters: dict[tuple[str, str | None], Cluster] = {}
        #: The owners in Ray that the task has had to do with, by connection and dashboard, each with DAG and run.
        self.ray_owners: dict[tuple[str, str | None, str], tuple[str, str]] = {}
        #: What the task has asked Airflow for last, if that was to defer it.
        self.deferral: Deferral | None = None

    @cached_property
    def settings(self) -> Settings:
        """The ``[airfreight]`` section."""
        return load_settings()

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that sign references here."""
        from airfreight.keys import default_path, load_keys

        if self.settings.secret_key is None and runs_in_a_pod_of_its_own() and not default_path().exists():
            raise InvalidError(
                f"under the KubernetesExecutor every task would make a secret key of its own in {default_path()}: no "
                f"other task could verify what this one returns",
                "set [airfreight] secret_key for all pods alike, for example from a Kubernetes Secret",
            )
        return load_keys(self.settings)

    @cached_property
    def deployment(self) -> str:
        """What tells this Airflow deployment's objects from another's: the fingerprint of its key."""
        from airfreight._store import key_fingerprint

        return key_fingerprint(self.keys[0])

    @cached_property
    def agent_url(self) -> str | None:
        """Where other hosts find this one's agent, if it has one."""
        from airfreight import neighbours

        return neighbours.own_url(self.settings)

    @cached_property
    def store(self) -> Store:
        """The store of this host."""
        from airfreight._store import Store

        store = Store(self.settings.store_path, **self._store_limits)
        if store.notice:
            log.info("%s", store.notice)
        return store

    @property
    def store_options(self) -> dict[str, Any]:
        """How the other compiled module opens the store: where it lies, and the same limits."""
        return {"path": self.store.path, **self._store_limits}

    @property
    def _store_limits(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "capacity_bytes": settings.capacity_bytes,
            "spill_path": settings.spill_path,
            "spill_capacity_bytes": settings.spill_capacity_bytes,
            "pool_bytes": settings.pool_bytes,
            "ttl_seconds": round(settings.ttl_hours * 3600),
        }

    @property
    def uses_store(self) -> bool:
        """Whether the store was opened."""
        return "store" in vars(self)

    def require_lasting_store(self) -> None:
        """
        Make sure that what is stored outlives this task.

        :raises InvalidError: the task is the only one in its pod and nobody said that the store is shared.
        """
        if self.settings.shared_store or not runs_in_a_pod_of_its_own():
            return
        raise InvalidError(
            "under the KubernetesExecutor this task's store ends with its pod: no other task could read the value",
            "mount a hostPath volume at [airfreight] store_path into every pod of a node and set shared_store = True, "
            "with an agent on every node for tasks on the others; or keep copies in a bucket with checkpoint=True",
        )

    def begin(self, task_instance: Any) -> None:
        """Remember the task instance that starts to run in this process."""
        self.task_instance = task_instance
        self.pushes.clear()
        self._written.clear()

    def end(self) -> None:
        """Forget the task instance: it is over. Only ``dag.test()`` runs another one in the same process."""
        self.task_instance = None
        self.pushes.clear()
        self.ray_owners.clear()
        self._written.clear()

    def wrote(self, key: str | None, names: Iterable[str]) -> None:
        """Remember what a row of the running task refers to, and let expire what the row before it did."""
        replaced = self._written.pop(key, [])
        if written := list(names):
            self._written[key] = written
        for name in replaced:
            self.store.expire(name, _REPLACED_SECONDS)

    def sweep(self) -> None:
        """Remove a few expired objects, where the store is in use; never fails a task."""
        if not self.uses_store:
            return
        try:
            self.store.sweep(_SWEEP_LIMIT)
        except Exception:
            log.warning("could not remove expired objects from the store", exc_info=True)


def runs_in_a_pod_of_its_own() -> bool:
    """Whether Airflow's KubernetesExecutor made a pod for this task, with a file system that ends with it."""
    return os.environ.get("AIRFLOW_IS_K8S_EXECUTOR_POD", "").lower() in ("true", "1")


_current: Process | None = None


def here() -> Process:
    """The state of this process."""
    global _current  # noqa: PLW0603 - one per process is the point
    if _current is None or _current.pid != os.getpid():
        _current = Process()
    return _current
