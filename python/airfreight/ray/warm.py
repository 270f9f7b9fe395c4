"""
Running functions by the runner of a cluster, which waits there for them: no job has to start.

A *call* is to a runner what a job is to Ray, and is followed, stopped and taken over in the same way.
"""

from __future__ import annotations

import logging
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple

from airfreight.errors import AirfreightError, InvalidError, ObjectLostError, ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airfreight._remote import RayClient, RayRunner, Watch
    from airfreight.ray.parcel import Parcel

log = logging.getLogger(__name__)

ISOLATIONS = ("pool", "process")

#: Seconds for which a task waits for a runner to start; then it runs its function as a job, if it may.
READY_SECONDS = 60.0

#: What travels with the call itself; a cluster keeps what is larger as packages.
_PARCEL_BYTES_MAX = 1024 * 1024

#: What of a runtime environment makes another Python of a job's, of which a runner has no workers.
_JOBS_ALONE = ("image_uri", "container", "conda", "py_executable", "nsight", "rocprof_sys")


class Calls:
    """
    The calls of one DAG run, with the methods with which a client follows jobs.

    :param owner: the actor in the cluster that makes them and owns their results.
    """

    def __init__(self, client: RayClient, runner: RayRunner, owner: str) -> None:
        self.client = client
        self.runner = runner
        self.owner = owner

    def submit(self, submission: Mapping[str, Any]) -> bool:
        """Have the runner make a call."""
        spec = {name: value for name, value in submission.items() if name != "submission_id"}
        self.runner.call({**spec, "id": submission["submission_id"], "nonce": secrets.token_hex(16)})
        return True

    def jobs(self) -> list[dict[str, Any]]:
        """All calls of the run that the cluster knows."""
        try:
            return [as_job(state) for state in self.runner.calls(self.owner)]
        except (ObjectNotFoundError, ObjectLostError):
            return []

    def job(self, submission_id: str) -> dict[str, Any] | None:
        """What is known of a call, as Ray would tell it of a job; ``None``: nothing."""
        try:
            state = self.runner.state(self.owner, submission_id)
        except (ObjectNotFoundError, ObjectLostError):
            return None
        return None if state is None else as_job(state)

    def stop(self, submission_id: str) -> bool:
        """End a call; ``False``: it was over already."""
        try:
            return self.runner.cancel(self.owner, submission_id)
        except (ObjectNotFoundError, ObjectLostError):
            return False

    def watch(
        self,
        submission_id: str,
        *,
        logs: bool = True,
        cursor: str | None = None,
        session: str | None = None,
        deadline: float | None = None,
    ) -> Watch:
        """Follow a call until it is over."""
        return self.runner.watch(
            self.owner, submission_id, logs=logs, cursor=cursor, session=session, deadline=deadline
        )

    def job_url(self, submission_id: str) -> str:  # noqa: ARG002 - a call has no page of its own
        """The page of the runner in the Ray dashboard, for people."""
        return self.client.job_url(self.runner.job_id)


def as_job(state: Mapping[str, Any]) -> dict[str, Any]:
    """A call as Ray would describe a job."""
    return {**state, "submission_id": state["id"], "driver_node_id": state.get("node_id")}


class Mode(NamedTuple):
    """
    How functions are to run.

    :param name: ``auto``, ``warm`` or ``cold``.
    :param said_by: who says so, for people.
    """

    name: str
    said_by: str


def mode(task: str | None, connection: str | None, conn_id: str, setting: str) -> Mode:
    """What counts of what task, connection and settings say."""
    from airfreight.settings import RAY_MODES

    if task is not None:
        if task not in RAY_MODES:
            raise InvalidError(f"mode={task!r} is none of {', '.join(RAY_MODES)}")
        return Mode(task, f"the task says mode={task!r}")
    if connection is not None:
        return Mode(connection, f"connection {conn_id} says mode = {connection}")
    return Mode(setting, f"[airfreight] ray_mode is {setting}")


def obstacle(environment: Mapping[str, Any], entrypoint: str) -> str | None:
    """What of a task only a job of its own can do; ``None``: nothing."""
    if entrypoint:
        return "it has an entrypoint in place of its function"
    found = [name for name in _JOBS_ALONE if environment.get(name)]
    return f"its runtime environment has {', '.join(found)}" if found else None


def choose(
    wished: Mode, hindrance: str | None, name: str, start: Callable[[], Mapping[str, Any]], tell: Callable[..., None]
) -> bool:
    """
    Whether a runner makes the call; else it becomes a job. Says which and why.

    :param hindrance: what only a job can do.
    :param start: makes sure that there is a runner, and says what it is.
    :param tell: writes into the task's log.
    :raises InvalidError: the task wants a runner for what only a job can do.
    :raises AirfreightError: the task wants a runner, and none can start.
    """
    if wished.name == "cold":
        tell("running %s cold, as a Ray job of its own: %s", name, wished.said_by)
        return False
    if hindrance is not None:
        if wished.name == "warm":
            raise InvalidError(
                f"{name} can't run warm: {hindrance}, which only a Ray job of its own can do",
                "set mode to auto or cold",
            )
        tell("running %s cold, as a Ray job of its own: %s (%s)", name, hindrance, wished.said_by)
        return False
    try:
        ready = start()
    except AirfreightError as error:
        if wished.name == "warm":
            raise
        tell("running %s cold, as a Ray job of its own, because no runner can start: %s", name, error.message)
        return False
    tell(
        "running %s warm, by the cluster's runner (Ray %s, Python %s, through %s): %s",
        name,
        ready.get("ray"),
        ready.get("python"),
        "its own port" if ready.get("transport") == "port" else "the dashboard",
        wished.said_by,
    )
    return True


def parcel_of(parcel: Parcel, client: RayClient) -> dict[str, Any]:
    """A parcel as a call has it: within, or as packages that the cluster keeps."""
    packages = list(parcel.packages())
    if sum(map(len, packages)) <= _PARCEL_BYTES_MAX:
        return {"name": parcel.name, "zips": [b64encode(package).decode("ascii") for package in packages]}
    return {"name": parcel.name, "uris": [client.upload(package) for package in packages]}


def options_of(submission: Mapping[str, Any]) -> dict[str, Any]:
    """What a job's entry point would ask of the cluster, as a Ray task asks for it."""
    start = "entrypoint_"
    return {name.removeprefix(start): value for name, value in submission.items() if name.startswith(start)}
