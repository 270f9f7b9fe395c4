"""
Values in Ray clusters: where one is, how it comes here or goes there, and when it may go.

A value stays in the memory of the cluster in which a task has made it. It is fetched once per host, into the store,
where the next task of the host finds it.
"""

from __future__ import annotations

import hashlib
import logging
import random
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight import journal, references
from airfreight.errors import AirfreightError, ObjectLostError, ObjectNotFoundError, OutOfReachError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airfreight._remote import RayClient, RayRunner
    from airfreight.process import Process
    from airfreight.ray.attempt import Attempt
    from airfreight.ray.connection import RayConnection
    from airfreight.ray.handle import StoredValue
    from airfreight.references import Row

#: One name for all of it, so that it can be filtered as a whole.
log = logging.getLogger("airfreight.xcom")

#: A task that runs again waits no longer for the cluster to forget what the one before it made.
_DROP_SECONDS = 3.0

#: A cluster may be silent for so long before a value's checkpoint is read in its place.
_DOUBT_SECONDS = 20.0

#: So many runs of others a task asks Airflow about.
_ASKED_MAX = 4

#: A run that was at work so lately is still running, or its last task frees what it has left.
_IDLE_HOURS_MIN = 1 / 60

_NOT_FOUND = 404

_RUN_HAS_ENDED = frozenset({"success"})
_TASK_HAS_SUCCEEDED = frozenset({"success", "skipped", "removed"})


class Cluster(NamedTuple):
    """
    A Ray cluster in which values may be.

    :param conn_id: the Airflow connection.
    :param dashboard: another dashboard than the connection's; ``None`` for its own.
    """

    conn_id: str
    dashboard: str | None
    client: RayClient
    runner: RayRunner
    session: str | None

    @property
    def where(self) -> dict[str, Any]:
        """What rows say of it."""
        where: dict[str, Any] = {"conn": self.conn_id, "session": self.session}
        if self.dashboard:
            where["dashboard"] = self.dashboard
        return where


def cluster(connection: RayConnection, dashboard: str | None = None, client: RayClient | None = None) -> Cluster:
    """The cluster of a connection."""
    client = client or connection.client(dashboard)
    session = client.cluster().get("session_name")
    return Cluster(connection.conn_id, dashboard, client, runner(connection, client), session)


def runner(connection: RayConnection, client: RayClient) -> RayRunner:
    """The runner of a cluster, which need not run yet."""
    from airfreight.ray.parcel import driver_package

    return client.runner(driver_package(), port=connection.runner_port, idle_seconds=connection.runner_idle_seconds)


def owner_name(attempt: Attempt) -> str:
    """What the owner of a DAG run's values is called in the cluster."""
    parts = (attempt.deployment, attempt.dag_id, attempt.run_id, attempt.run)
    return f"airfreight-owner-{_digest(parts)[:20]}"


def owner_info(attempt: Attempt) -> dict[str, str]:
    """What an owner says about itself."""
    return {"deployment": attempt.deployment, "dag_id": attempt.dag_id, "run_id": attempt.run_id}


def object_name(row: Row) -> str:
    """What the copy of a Ray value is called in every store: its copies are one object."""
    ray = row["ray"]
    return _digest((ray["owner"], ray["generation"], ray["key"]))[:32]


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def keeps_values() -> bool:
    """Whether rows may stand for values in clusters: only our XCom backend can read them."""
    from airflow.sdk.execution_time.xcom import XCom

    from airfreight.xcom import AirfreightXCom

    return isinstance(XCom, type) and issubclass(XCom, AirfreightXCom)


# Values here


def fetch(process: Process, row: Row, *, reads: bool = True) -> str:
    """
    Bring a value to this host, unless it is here.

    :param reads: whether it is to be read here, and not only passed on.
    :returns: the name of its copy in the store.
    :raises ObjectLostError: it is gone from the cluster, and there is no checkpoint; the message says why, and which
        task to clear.
    :raises InvalidError: the libraries of this process can't read it; both versions are named.
    """
    if reads:
        from airfreight.ray import skew

        name_of_task = str((row.get("owner") or {}).get("task_id", "a task"))
        skew.check_result(str(row["ray"].get("python")), row["ray"].get("libraries") or {}, name_of_task)
    name = object_name(row)
    began = perf_counter()
    if process.store.contains(name):
        journal.fetched(row, "from the copy on this host", began)
        return name
    ray, owner = row["ray"], row.get("owner") or {}
    note_use(process, str(ray["conn"]), ray.get("dashboard"), str(ray["owner"]), owner)
    try:
        how = _fetch(process, row)
    except AirfreightError as error:
        if "bucket" not in row:
            raise
        from airfreight import checkpoint

        log.warning("%s; reading its checkpoint", error.message)
        checkpoint.restore(process, row, {**row, "id": name})
        how = "from its checkpoint"
    journal.fetched(row, how, began)
    return name


def _fetch(process: Process, row: Row) -> str:
    ray = row["ray"]
    # Where there is a checkpoint, nobody waits for a cluster that doesn't answer.
    there = _cluster_of(process, row, _DOUBT_SECONDS if "bucket" in row else None)
    if ray.get("session") and there.session and there.session != ray["session"]:
        raise ObjectLostError(
            f"{references.value_text(row)} was in the Ray cluster of connection `{there.conn_id}`, and another cluster "
            f"answers there now: {there.session} in place of {ray['session']}",
            _hint(row),
        )
    value = {name: ray[name] for name in ("owner", "generation", "key")} | {"nbytes": row["nbytes"]}
    by = ""
    try:
        by = _fetch_by(process, there, value, row)
    except (ObjectLostError, ObjectNotFoundError) as error:
        raise ObjectLostError(
            f"{references.value_text(row)} is no longer in the Ray cluster of connection `{there.conn_id}`: it was "
            f"freed when its run was over or its task ran again, or what owned it there has died ({error.message})",
            _hint(row),
        ) from error
    return f"from Ray, connection {there.conn_id}, through {by}"


def _fetch_by(process: Process, there: Cluster, value: dict[str, Any], row: Row) -> str:
    """Bring a value to this host by the first way that carries it, and say which."""
    try:
        there.runner.fetch(value, process.store_options, progress=journal.progress("fetched", "from Ray"))
    except OutOfReachError as error:
        from airfreight.ray import detour

        return detour.fetch(process, there.runner, value, row, error)
    return "the runner's own port" if there.runner.transport == "port" else "the dashboard"


def _cluster_of(process: Process, row: Row, seconds: float | None = None) -> Cluster:
    return _cluster_at(process, str(row["ray"]["conn"]), row["ray"].get("dashboard"), seconds)


def _cluster_at(process: Process, conn_id: str, dashboard: str | None, seconds: float | None = None) -> Cluster:
    from airfreight.hooks.ray import RayHook

    key = (conn_id, dashboard)
    if seconds is None and (known := process.clusters.get(key)) is not None:
        return known
    connection = RayHook(conn_id).connection
    if seconds is not None:
        return cluster(replace(connection, timeout=seconds, patience=seconds), dashboard)
    found = process.clusters[key] = cluster(connection, dashboard)
    return found


def _hint(row: Row) -> str:
    again = references.clear_hint(row.get("owner") or {})
    return f"{again}; with checkpoint=True a task keeps a copy in a bucket"


# Values there


def send(process: Process, value: StoredValue, there: Cluster, owner: str, info: Mapping[str, str]) -> dict[str, Any]:
    """
    Give a value of the store to a cluster, which may have it already.

    :returns: what it is called there.
    """
    began = perf_counter()
    progress = journal.progress("sent", "to Ray")
    try:
        place = there.runner.send(value.name, process.store_options, owner, dict(info), progress=progress)
    except OutOfReachError as error:
        from airfreight.ray import detour

        place = detour.send(process, there.runner, value.row, owner, dict(info), error)
    log.info(
        "gave %s, %s, to Ray, connection %s, in %.1f ms",
        value.type,
        value.row.get("size"),
        there.conn_id,
        (perf_counter() - began) * 1e3,
    )
    return {name: place[name] for name in ("owner", "generation", "key")}


# The end of values


def drop(process: Process, row: Row) -> None:
    """Free a value in its cluster, if that can be done at once: its task runs again, and must not fail for it."""
    process.store.delete(object_name(row))
    ray = row["ray"]
    try:
        there = _cluster_of(process, row, _DROP_SECONDS)
        if ray.get("session") == there.session and there.runner.running():
            there.runner.drop(ray["owner"], ray["key"])
    except Exception as error:  # noqa: BLE001 - whatever it is, the value goes with its run
        log.info("left a replaced value in Ray until its run is over: %s", error)


def note_use(process: Process, conn_id: str, dashboard: str | None, owner: str, run: Mapping[str, Any]) -> None:
    """Remember that this task has had to do with an owner in a cluster, and whose it is."""
    process.ray_owners[conn_id, dashboard, owner] = (str(run.get("dag_id")), str(run.get("run_id")))


def clean(there: Cluster, attempt: Attempt, task_instance: Any, retention_hours: float) -> None:
    """
    Free what runs have left that are over: a little work of every task on Ray, for Airflow tells nobody of their end.

    Never fails a task.
    """
    try:
        mine = owner_name(attempt)
        idle_hours = max(retention_hours, _IDLE_HOURS_MIN)
        unused = [
            owner
            for owner in there.runner.owners()
            if owner["name"] != mine
            and (owner.get("info") or {}).get("deployment") == attempt.deployment
            and not owner.get("running")
            and _idle_hours(owner) >= idle_hours
        ]
        # Any of them: runs that are kept must not keep others from being asked about.
        for owner in random.sample(unused, min(_ASKED_MAX, len(unused))):
            info = owner["info"]
            if _has_ended(task_instance, info):
                there.runner.drop_owner(owner["name"])
                log.info("freed what run %s of DAG %s had left in Ray", info.get("run_id"), info.get("dag_id"))
    except Exception as error:  # noqa: BLE001 - the owners end by themselves
        log.info("left what ended runs have in Ray for later: %s", error)


def finish(process: Process, task_instance: Any) -> None:
    """
    Free what a run has left in Ray after its last task has succeeded, where the settings want nothing kept.

    Never fails a task: it is over.
    """
    try:
        if process.settings.ray_retention_hours > 0:
            return
        run = (task_instance.dag_id, task_instance.run_id)
        mine = [where for where, theirs in process.ray_owners.items() if theirs == run]
        if not mine or not _is_last(task_instance):
            return
        for conn_id, dashboard, owner in mine:
            there = _cluster_at(process, conn_id, dashboard, _DROP_SECONDS)
            if there.runner.running():
                there.runner.drop_owner(owner)
    except Exception as error:  # noqa: BLE001 - the next task on Ray does it, or the owner itself
        log.info("left what this run has in Ray for later: %s", error)


def _is_last(task_instance: Any) -> bool:
    """Whether all other tasks of the run have succeeded or were skipped."""
    index = task_instance.map_index
    me = task_instance.task_id if index is None or index < 0 else f"{task_instance.task_id}_{index}"
    states = task_instance.get_task_states(dag_id=task_instance.dag_id, run_ids=[task_instance.run_id])
    found = states.get(task_instance.run_id) or {}
    return me in found and all(
        str(getattr(state, "value", state)) in _TASK_HAS_SUCCEEDED for name, state in found.items() if name != me
    )


def _has_ended(task_instance: Any, info: Mapping[str, Any]) -> bool:
    try:
        state = task_instance.get_dagrun_state(info["dag_id"], info["run_id"])
    except Exception as error:  # noqa: BLE001 - its class differs between versions
        # A run that was deleted has ended as well; any other answer says nothing.
        detail = getattr(getattr(error, "error", None), "detail", None) or {}
        return detail.get("status_code") == _NOT_FOUND and "not_found" in str(detail)
    return str(getattr(state, "value", state)) in _RUN_HAS_ENDED


def _idle_hours(owner: Mapping[str, Any]) -> float:
    from time import time

    used_at = owner.get("used_at")
    if used_at is None:
        return 0.0
    # Seconds or milliseconds since 1970.
    seconds = float(used_at) / 1000 if float(used_at) > 1e11 else float(used_at)
    return max(time() - seconds, 0.0) / 3600
