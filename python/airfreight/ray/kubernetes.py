"""
Ray clusters on Kubernetes: what describes one, who made it, the way to it, and its end.

Nothing of the `kubernetes` package is imported: ``airfreight._remote`` speaks with the API server.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airfreight.errors import AirfreightError, InvalidError, UnavailableError
from airfreight.ray.waiting import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airfreight._remote import KubeClusters, RayClient
    from airfreight.ray.attempt import Attempt
    from airfreight.ray.connection import RayConnection

log = logging.getLogger(__name__)

#: Begins the address of a cluster that has none of its own from here: `kubernetes://namespace/name`.
SCHEME = "kubernetes://"

#: The name of the head's port, and of the XCom, that leads to the dashboard.
DASHBOARD = "dashboard"

#: How a trigger says that a cluster serves.
READY = "READY"

#: Seconds for which a cluster of the same name may take to go before its successor is made.
GONE_SECONDS = 600.0

#: Airflow gives a task that it kills a minute.
_KILL_SECONDS = 20.0

_STEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KubeCluster:
    """
    A cluster that a task has found or made.

    :param uid: another cluster of this name has another.
    :param is_ours: whether it goes when the task that made it is over, or fails to set it up.
    """

    namespace: str
    name: str
    uid: str
    is_ours: bool = False

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def reference(self) -> str:
        """An address that every process with the same connection finds its own way to."""
        return f"{SCHEME}{self.namespace}/{self.name}"

    def plain(self) -> dict[str, Any]:
        """As a trigger or an event has it."""
        return asdict(self)


def api(connection: RayConnection, patience: float | None = None) -> KubeClusters:
    """
    The API server that a connection leads to.

    :param patience: seconds for which it may be silent.
    """
    from airfreight._remote import KubeClusters

    fields = connection.kubernetes
    config = fields.get("kube_config")
    return KubeClusters(
        kubeconfig_path=fields.get("kube_config_path"),
        kubeconfig=config if config is None or isinstance(config, str) else json.dumps(config),
        in_cluster=bool(fields.get("in_cluster")),
        context=fields.get("cluster_context"),
        namespace=fields.get("namespace"),
        verify=not fields.get("disable_verify_ssl"),
        timeout=connection.timeout,
        **({} if patience is None else {"patience": patience}),
    )


# What describes a cluster


def describe(
    given: str | Mapping[str, Any],
    folder: str | None = None,
    instance: str = "",
    *,
    what: str = "ray_cluster_yaml",
) -> dict[str, Any]:
    """
    The ``RayCluster`` that a task names, or another object.

    :param given: a dict, YAML, or a file or URL that holds YAML.
    :param folder: where relative paths start.
    :param instance: makes a name of ``metadata.generateName``: the same for all attempts of what the cluster is for.
    :param what: the parameter that is given, for errors.
    :raises InvalidError: it is no YAML of one mapping.
    """
    description = given if not isinstance(given, str) else parse(*text_of(given, folder, what))
    if not isinstance(description, dict):
        raise InvalidError(
            f"{what} describes nothing: it holds {type(description).__name__}, not a mapping",
            "give the YAML of one object: a path, a URL, the text itself or a dict",
        )
    metadata = description.get("metadata")
    if isinstance(metadata, dict) and metadata.get("generateName") and not metadata.get("name"):
        rest = {key: value for key, value in metadata.items() if key != "generateName"}
        description = {**description, "metadata": {**rest, "name": f"{metadata['generateName']}{instance[:8]}"}}
    return description


def text_of(given: str, folder: str | None, what: str) -> tuple[str, str]:
    """
    YAML, and where it stands.

    :param given: YAML, or a file or URL that holds it.
    :param folder: where relative paths start.
    :param what: the parameter that is given, for errors.
    """
    stripped = given.strip()
    if stripped.startswith(("http://", "https://")):
        return _fetch(stripped, what), f"`{stripped}`"
    if "\n" in stripped or stripped.startswith("{"):
        return given, what
    path = Path(folder or ".", Path(stripped).expanduser())
    try:
        return path.read_text(encoding="utf-8"), f"`{path}`"
    except OSError as error:
        raise InvalidError(
            f"cannot read {what} `{path}`: {error.strerror or error}",
            "relative paths start from the DAG file's folder",
        ) from error


def _fetch(url: str, what: str) -> str:
    from urllib.request import urlopen

    from airfreight.ray.connection import TIMEOUT

    try:
        with urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - the scheme was checked
            return str(response.read().decode())
    except OSError as error:
        raise UnavailableError(f"cannot fetch {what} from {url}: {error}") from error


def parse(text: str, where: str) -> Any:
    """The one document of some YAML."""
    import yaml  # type: ignore[import-untyped]

    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except yaml.YAMLError as error:
        raise InvalidError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    if len(documents) > 1:
        raise InvalidError(f"{where} has {len(documents)} documents", "give each cluster a file and a task of its own")
    return documents[0] if documents else None


# A cluster's life


def apply(
    connection: RayConnection,
    description: Mapping[str, Any],
    *,
    update: bool,
    attempt: Attempt | None = None,
    tell: Any = log,
) -> KubeCluster:
    """
    Create the cluster, or take the one there is.

    :param attempt: whose it is, if it is to go with one task; a cluster that was there before is nobody's.
    :param tell: the task's log.
    :raises ConflictError: it belongs to another task.
    """
    kube = api(connection)
    owner = None if attempt is None else attempt.task
    made_by = None if attempt is None else attempt.place()
    known = kube.apply(description, update=update, owner=owner, attempt=made_by, patience=GONE_SECONDS)
    outcome = known["outcome"]
    is_ours = outcome == "created" if owner is None else known["owner"] == owner
    cluster = KubeCluster(known["namespace"], known["name"], known["uid"], is_ours)
    match outcome:
        case "created":
            tell.info("created RayCluster %s", cluster)
        case "updated":
            tell.info("changed RayCluster %s, which was described otherwise", cluster)
        case "kept":
            tell.warning(
                "RayCluster %s is there and was described otherwise; it stays as it is: update_if_exists is False",
                cluster,
            )
        case _:
            tell.info("RayCluster %s is there, just as it is described", cluster)
    if owner is not None and not is_ours:
        tell.info("RayCluster %s was there before this task and stays after it", cluster)
    return cluster


def wait(
    connection: RayConnection,
    cluster: KubeCluster,
    tell: Any,
    *,
    deadline: float,
    until: float | None = None,
    is_killed: Callable[[], bool] = lambda: False,
) -> bool:
    """
    Wait in a worker until the cluster serves, with a line in the task's log for each change.

    :param deadline: Unix time at which to give it up.
    :param until: a time of ``time.monotonic()`` at which to return ``False`` and leave the rest to somebody else.
    :raises UnavailableError: it doesn't start, and why.
    :raises Interrupted: ``is_killed`` says so.
    """
    with api(connection).watch(cluster.namespace, cluster.name, patience=patience(deadline)) as watch:
        while not is_killed():
            left = _STEP_SECONDS if until is None else min(_STEP_SECONDS, until - time.monotonic())
            if left <= 0:
                return False
            event = watch.next(left)
            if event is not None:
                say(tell, cluster, event)
                if event["event"] == "ready":
                    return True
    raise Interrupted


def patience(deadline: float) -> float:
    """Seconds that are left until then."""
    return max(deadline - time.time(), 0.0)


def say(tell: Any, cluster: KubeCluster | str, event: Mapping[str, Any]) -> None:
    """Tell in the task's log what has happened to a cluster that starts."""
    if event["event"] == "ready":
        tell.info("RayCluster %s is ready", cluster)
    elif event["is_problem"]:
        tell.warning("%s", event["line"])
    else:
        tell.info("%s", event["line"])


def delete(connection: RayConnection, cluster: KubeCluster, tell: Any = log, *, is_killed: bool = False) -> None:
    """
    Delete a cluster that was made for a task, and don't wait until it is gone.

    What keeps us from it is told and not raised: the task's own end counts.
    """
    try:
        kube = api(connection, _KILL_SECONDS if is_killed else None)
        if kube.delete(cluster.namespace, cluster.name, uid=cluster.uid):
            tell.info("deleted RayCluster %s", cluster)
    except AirfreightError as error:
        tell.error("cannot delete RayCluster %s, which goes on running: %s", cluster, error)


def remove(connection: RayConnection, description: Mapping[str, Any], *, seconds: float, tell: Any = log) -> None:
    """
    Delete the cluster of a description, and wait until it is gone with its pods.

    :param seconds: how long that may take.
    :raises UnavailableError: it is not gone by then.
    """
    kube = api(connection)
    metadata = description.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not name:
        raise InvalidError("ray_cluster_yaml has no metadata.name", "give the YAML that the cluster was made of")
    namespace = str(metadata.get("namespace") or kube.place()[1])
    known = kube.get(namespace, str(name))
    if known is None:
        tell.info("there is no RayCluster %s/%s", namespace, name)
        return
    tell.info("deleting RayCluster %s/%s", namespace, name)
    kube.delete(namespace, known["name"], uid=known["uid"])
    kube.wait_gone(namespace, known["name"], uid=known["uid"], patience=seconds)
    tell.info("RayCluster %s/%s is gone", namespace, name)


# The way to a cluster


def place_of(address: str | None) -> tuple[str, str] | None:
    """
    Namespace and name, if an address refers to a cluster on Kubernetes.

    :raises InvalidError: it does, and has no such form.
    """
    if not address or not address.startswith(SCHEME):
        return None
    namespace, _, name = address.removeprefix(SCHEME).strip("/").partition("/")
    if not namespace or not name or "/" in name:
        raise InvalidError(
            f"`{address}` is not the address of a Ray cluster on Kubernetes", f"write {SCHEME}namespace/name"
        )
    return namespace, name


def client(connection: RayConnection, namespace: str, name: str) -> RayClient:
    """
    A client of a cluster, on the first way to it that is open from here; a forward through the API server, if none is.

    :raises UnavailableError: the cluster has no head, or there is no way to it.
    """
    kube = api(connection)
    token = connection.token or _token(kube, namespace, name)
    way = kube.open_way(namespace, name)
    if way is not None and DASHBOARD in way["urls"]:
        return connection.client_at(way["urls"][DASHBOARD], token=token)
    forward = kube.forward(namespace, name)
    return connection.client_at(forward.address, token=token, through=forward)


def _token(kube: KubeClusters, namespace: str, name: str) -> str | None:
    from airfreight.ray import versions

    token = kube.token(namespace, name)
    if token:
        with suppress(Exception):
            versions.mask_secret(token)
    return token


def addresses(connection: RayConnection, cluster: KubeCluster) -> dict[str, str]:
    """
    Where the cluster's ports are, by their names, as other tasks can use it.

    The dashboard is a reference where no address leads to it from here, or where an address alone would not open it.
    """
    kube = api(connection)
    way = kube.open_way(cluster.namespace, cluster.name)
    found: dict[str, str] = dict(way["urls"]) if way is not None else {}
    if DASHBOARD not in found or (connection.token is None and kube.token(cluster.namespace, cluster.name)):
        found[DASHBOARD] = cluster.reference
    return found
