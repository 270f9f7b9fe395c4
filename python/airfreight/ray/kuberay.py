"""
``RayJob`` and ``RayService`` objects, on which the KubeRay operator acts: whose they are, how they end, and their end.

A job here is an object of Kubernetes with a cluster of its own; the exactly-one rule of :mod:`airfreight.ray.attempt`
holds for it as for a job of the Jobs API, whose metadata stand in an annotation here.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airfreight.errors import AirfreightError, ConflictError, InvalidError
from airfreight.ray import kubernetes, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airfreight._remote import KubeClusters
    from airfreight.ray.attempt import Attempt
    from airfreight.ray.connection import RayConnection

JOB = "RayJob"
SERVICE = "RayService"

#: What a killed task does with its job.
KILL_ACTIONS = ("delete", "suspend", "leave")

#: Where an object says which attempt it is for, in the words of a job's metadata.
_METADATA = "airfreight/metadata"

#: For who sets no limit: longer than any job.
_FOR_EVER_SECONDS = 10 * 365 * 86400.0

#: So long a log that doesn't end is copied once its job is over.
_LOG_SECONDS = 60.0

_KILL_SECONDS = 20.0
_STEP_SECONDS = 1.0

#: KubeRay's names for a job that is over, well or not.
_OVER = {"Complete": "SUCCEEDED", "Failed": "FAILED", "ValidationFailed": "FAILED"}


@dataclass(frozen=True, slots=True)
class Resource:
    """
    One object of KubeRay's.

    :param uid: another object of this name has another.
    :param is_ours: whether it is this task's, and goes with it.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    is_ours: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def plain(self) -> dict[str, Any]:
        """As a trigger or an event has it."""
        return asdict(self)


def describe(given: str | Mapping[str, Any], kind: str, folder: str | None, instance: str) -> dict[str, Any]:
    """
    The object that a task names, as :func:`airfreight.ray.kubernetes.describe` reads it.

    :raises InvalidError: it is another kind of object, or none.
    """
    description = kubernetes.describe(given, folder, instance, what=parameter(kind))
    if description.get("kind") != kind:
        raise InvalidError(
            f"{parameter(kind)} describes a {description.get('kind') or 'nothing'}, not a {kind}",
            f"give the YAML of one {kind}: a path, a URL, the text itself or a dict",
        )
    return description


def parameter(kind: str) -> str:
    """The operator's parameter with the description."""
    return {JOB: "ray_job_yaml", SERVICE: "ray_service_yaml"}[kind]


# Jobs


def begin(
    connection: RayConnection,
    description: Mapping[str, Any],
    attempt: Attempt,
    tell: Any,
    *,
    resumes: bool = False,
    is_collected: bool = True,
) -> Resource:
    """
    Create the job of an attempt, or take over the one that an attempt before has left.

    :param is_collected: whether `airfreight cluster gc` may delete it when the task is over.
    :param resumes: a suspended job goes on, whoever has suspended it and whether the task was cleared since.
    :raises ConflictError: there is a job of this name that isn't the task's.
    """
    kube = kubernetes.api(connection)
    metadata = description.get("metadata") or {}
    namespace = str(metadata.get("namespace") or kube.place()[1])
    found = [each for each in kube.list(namespace, owner=attempt.task, kind=JOB) if not _is_ending(each)]
    if resumes and (suspended := [each for each in found if each["object"]["spec"].get("suspend")]):
        known = max(suspended, key=lambda each: str(each["object"]["metadata"].get("creationTimestamp")))
        tell.info("RayJob %s/%s goes on, which was suspended", namespace, known["name"])
        kube.suspend(namespace, known["name"], False)
        return _resource(JOB, known)
    plan = attempt.plan(_as_job(each) for each in found)
    for each in found:
        is_stopped = each["name"] in plan.stop
        if is_stopped:
            tell.warning("deleting RayJob %s/%s of an attempt before", namespace, each["name"])
        # One that has failed makes room for its successor of the same name.
        has_name = each["name"] == metadata.get("name") and plan.take is None
        if is_stopped or has_name:
            kube.delete(namespace, each["name"], uid=each["uid"], kind=JOB)
    if plan.take is not None:
        known = next(each for each in found if each["name"] == plan.take.submission_id)
        tell.info("taking over RayJob %s/%s of an earlier attempt", namespace, known["name"])
        return _resource(JOB, known)
    annotations = {**(metadata.get("annotations") or {}), _METADATA: json.dumps(attempt.metadata(), sort_keys=True)}
    known = kube.apply(
        {**description, "metadata": {**metadata, "annotations": annotations}},
        kind=JOB,
        owner=attempt.task,
        attempt=attempt.place() if is_collected else None,
        patience=kubernetes.GONE_SECONDS,
    )
    # One that was there and says the same was created by a request whose answer was lost.
    if known["outcome"] != "created" and _metadata(known) != attempt.metadata():
        raise ConflictError(
            f"RayJob {known['namespace']}/{known['name']} is there already, and isn't this task's",
            "with metadata.generateName in place of name, every attempt has a job of its own",
        )
    tell.info("created RayJob %s/%s", known["namespace"], known["name"])
    return _resource(JOB, known)


def copy_log(connection: RayConnection, resource: Resource, end: Mapping[str, Any], tell: Any) -> None:
    """Copy the log of a job that is over, as long as its cluster is there."""
    cluster, job_id = end.get("cluster"), end.get("job_id")
    if not cluster or not job_id:
        return
    try:
        client = kubernetes.client(connection, resource.namespace, str(cluster))
        with client.watch(str(job_id)) as watch:
            waiting.wait(client, watch, tell, until=time.monotonic() + _LOG_SECONDS, stops=False)
    except AirfreightError as error:
        # How it has ended is known, and no log is worth more.
        tell.warning("cannot read the log of %s: %s", resource, error)


# What jobs and services have in common


def wait(
    connection: RayConnection,
    resource: Resource,
    tell: Any,
    *,
    deadline: float | None,
    until: float | None = None,
    is_killed: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """
    Wait in a worker until the job is over or the service serves, with a line in the task's log for each change.

    :param deadline: Unix time at which to give it up.
    :param until: a time of ``time.monotonic()`` at which to return ``None`` and leave the rest to somebody else.
    :returns: how it ended, plain.
    :raises UnavailableError: it can't start, and why.
    :raises Interrupted: ``is_killed`` says so.
    """
    with follow(kubernetes.api(connection), resource, deadline) as watch:
        while not is_killed():
            left = _STEP_SECONDS if until is None else min(_STEP_SECONDS, until - time.monotonic())
            if left <= 0:
                return None
            try:
                event = watch.next(left)
            except AirfreightError as error:
                return failure(resource, error, deadline)
            if event is not None and (end := tell_of(tell, resource, event)) is not None:
                return end
    raise waiting.Interrupted


def follow(kube: KubeClusters, resource: Resource, deadline: float | None) -> Any:
    """What hands out the events of an object until it is over, or serves."""
    patience = _FOR_EVER_SECONDS if deadline is None else kubernetes.patience(deadline)
    return kube.watch(resource.namespace, resource.name, patience=patience, kind=resource.kind)


def tell_of(tell: Any, resource: Resource, event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Say in the task's log what has happened; how it ended, if the event says so."""
    if event["event"] == "line":
        (tell.warning if event["is_problem"] else tell.info)("%s", event["line"])
        return None
    if event["event"] == "ready":
        tell.info("%s serves", resource)
        return {"status": kubernetes.READY, "job_id": resource.name}
    status = "SUCCEEDED" if event["is_success"] else "FAILED"
    return {
        "status": status,
        "job_id": event["job_id"],
        "cluster": event["cluster"],
        "message": event["why"] or f"Ray says {event['status']}",
    }


def failure(resource: Resource, error: Exception, deadline: float | None) -> dict[str, Any]:
    """The end of a wait that can't go on."""
    if resource.kind == JOB and deadline is not None and time.time() >= deadline:
        end = waiting.timeout(resource.name)
        return {**end, "message": f"{resource} took longer than the task allows: {error}"}
    return waiting.failure(resource.name, error)


def remove(connection: RayConnection, resource: Resource, tell: Any, *, is_killed: bool = False) -> None:
    """
    Delete an object, its cluster with it, and don't wait until it is gone.

    What keeps us from it is told and not raised: the task's own end counts.
    """
    try:
        kube = kubernetes.api(connection, _KILL_SECONDS if is_killed else None)
        if kube.delete(resource.namespace, resource.name, uid=resource.uid, kind=resource.kind):
            tell.info("deleted %s", resource)
    except AirfreightError as error:
        tell.error("cannot delete %s, which goes on: %s", resource, error)


def abandon(connection: RayConnection, resource: Resource, action: str, tell: Any) -> None:
    """Do what a killed task wishes for its job: one of :data:`KILL_ACTIONS`."""
    if action == "leave":
        tell.warning("%s goes on, as on_kill='leave' wishes", resource)
    elif action == "suspend":
        try:
            kubernetes.api(connection, _KILL_SECONDS).suspend(resource.namespace, resource.name, True)
            tell.warning("suspended %s: its pods go, and the next attempt lets it go on", resource)
        except AirfreightError as error:
            tell.error("cannot suspend %s, which goes on: %s", resource, error)
    else:
        remove(connection, resource, tell, is_killed=True)


def delete(connection: RayConnection, description: Mapping[str, Any], kind: str, *, seconds: float, tell: Any) -> None:
    """
    Delete the object of a description, and wait until it is gone.

    :param seconds: how long that may take.
    :raises UnavailableError: it is not gone by then.
    """
    kube = kubernetes.api(connection)
    metadata = description.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not name:
        raise InvalidError(f"{parameter(kind)} has no metadata.name", "give the YAML that it was made of")
    namespace = str(metadata.get("namespace") or kube.place()[1])
    known = kube.get(namespace, str(name), kind=kind)
    if known is None:
        tell.info("there is no %s %s/%s", kind, namespace, name)
        return
    tell.info("deleting %s %s/%s", kind, namespace, name)
    kube.delete(namespace, known["name"], uid=known["uid"], kind=kind)
    kube.wait_gone(namespace, known["name"], uid=known["uid"], patience=seconds, kind=kind)
    tell.info("%s %s/%s is gone", kind, namespace, name)


# Services


def serve(
    connection: RayConnection, description: Mapping[str, Any], attempt: Attempt, tell: Any, *, update: bool
) -> Resource:
    """Create the service, or take or change the one there is; it outlives the task."""
    kube = kubernetes.api(connection)
    known = kube.apply(
        description, kind=SERVICE, update=update, attempt=attempt.place(), patience=kubernetes.GONE_SECONDS
    )
    resource = _resource(SERVICE, known, is_ours=known["outcome"] == "created")
    match known["outcome"]:
        case "created":
            tell.info("created %s", resource)
        case "updated":
            tell.info("changed %s, which was described otherwise", resource)
        case "kept":
            tell.warning(
                "%s is there and was described otherwise; it stays as it is: update_if_exists is False", resource
            )
        case _:
            tell.info("%s is there, just as it is described", resource)
    return resource


def endpoint(connection: RayConnection, resource: Resource) -> str:
    """Where a service's applications answer, inside Kubernetes."""
    known = kubernetes.api(connection).get(resource.namespace, resource.name, kind=SERVICE)
    spec = known["object"]["spec"] if known is not None else {}
    own = spec.get("serveService") or {}
    name = (own.get("metadata") or {}).get("name") or f"{resource.name}-serve-svc"
    ports = {each.get("name"): each.get("port") for each in (own.get("spec") or {}).get("ports") or ()}
    return f"http://{name}.{resource.namespace}.svc:{ports.get('serve') or 8000}"


def _resource(kind: str, known: Mapping[str, Any], *, is_ours: bool = True) -> Resource:
    return Resource(kind, known["namespace"], known["name"], known["uid"], is_ours)


def _is_ending(known: Mapping[str, Any]) -> bool:
    return bool(known["object"]["metadata"].get("deletionTimestamp"))


def _metadata(known: Mapping[str, Any]) -> Any:
    text = (known["object"]["metadata"].get("annotations") or {}).get(_METADATA)
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _as_job(known: Mapping[str, Any]) -> dict[str, Any]:
    """As the Jobs API would describe it."""
    status = known["object"].get("status") or {}
    state = _OVER.get(str(status.get("jobDeploymentStatus")), "RUNNING")
    if state == "SUCCEEDED" and status.get("jobStatus") not in (None, "", "SUCCEEDED"):
        state = "FAILED"
    return {"submission_id": known["name"], "metadata": _metadata(known), "status": state}
