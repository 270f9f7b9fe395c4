"""
What Ray clusters need of Kubernetes before there is one: the KubeRay operator, and a device plugin for GPUs.

Both are installed only if a task asks for them, and what is there already is never changed. There is no helm:
KubeRay's own manifests of a release are read as ``kubectl kustomize`` reads them, and applied by
``airfreight._remote``.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin

from airfreight.errors import InvalidError
from airfreight.ray.kubernetes import api, parse, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airfreight.ray.connection import RayConnection

log = logging.getLogger(__name__)

#: Where KubeRay keeps the manifests of its releases.
RELEASES = "https://raw.githubusercontent.com/ray-project/kuberay/v{version}/ray-operator/config/default"

#: Seconds until the operator runs; its image has to be pulled.
INSTALL_SECONDS = 300.0

_VERSION = re.compile(r"\d+\.\d+\.\d+([-.][0-9A-Za-z.]+)?")
_KUSTOMIZATION = "kustomization.yaml"
#: KubeRay's own objects bear the labels that it lets `kustomize` add.
_FOLLOWED = frozenset({"apiVersion", "kind", "resources", "bases", "namespace", "images", "labels", "commonLabels"})
_DEPTH_MAX = 8


class Manifests(NamedTuple):
    """
    Objects to be applied.

    :param texts: YAML, each with one or several objects.
    :param namespace: where they go, instead of where they say.
    :param images: others than theirs, by their names.
    """

    texts: tuple[str, ...]
    namespace: str | None = None
    images: Mapping[str, str] = {}


def prepare(
    connection: RayConnection,
    *,
    version: str | None,
    plugin: str | Mapping[str, Any] | None,
    folder: str | None = None,
    tell: Any = log,
) -> None:
    """
    Install what a task asks for and isn't there.

    :param version: of the KubeRay operator; nothing, if it isn't asked for.
    :param plugin: the device plugin's YAML: a path, a URL, the text or a dict; or nothing.
    :param folder: where relative paths start.
    :param tell: the task's log.
    :raises DeniedError: we may not, and every right that is missing; nothing was written.
    :raises UnavailableError: the manifests can't be fetched, or what was installed doesn't come up.
    """
    if version:
        install_operator(connection, str(version), tell=tell)
    if plugin:
        install_plugin(connection, plugin, folder, tell=tell)


def install_operator(connection: RayConnection, version: str, *, tell: Any = log) -> None:
    """Install the KubeRay operator unless Kubernetes knows its objects already; see :func:`prepare`."""
    wanted = version.strip().removeprefix("v")
    if not _VERSION.fullmatch(wanted):
        raise InvalidError(f"kuberay_version={version!r:.80} is not a version", "write one like 1.7.0")
    kube = api(connection)
    known = kube.operator()
    if known is not None:
        there = known["version"]
        if there in (None, wanted):
            tell.info("KubeRay is there%s", f": {there}" if there else "")
        else:
            tell.warning("KubeRay %s is there and stays, although kuberay_version is %s", there, wanted)
        return
    source = str(connection.kubernetes.get("kuberay_manifests") or RELEASES).replace("{version}", wanted)
    tell.info("there is no KubeRay: installing %s from %s", wanted, source)
    manifests = read(source)
    applied = kube.apply_objects(
        list(manifests.texts), namespace=manifests.namespace, images=dict(manifests.images), patience=INSTALL_SECONDS
    )
    tell.info("installed KubeRay %s: %d objects", wanted, len(applied))


def install_plugin(
    connection: RayConnection, given: str | Mapping[str, Any], folder: str | None = None, *, tell: Any = log
) -> None:
    """Apply a device plugin's objects, but none that is there; see :func:`prepare`."""
    applied = api(connection).apply_objects([_plugin(given, folder)], update=False, patience=INSTALL_SECONDS)
    for what, is_kept in applied:
        tell.info("%s is there", what) if is_kept else tell.info("created %s", what)


def remove_plugin(
    connection: RayConnection,
    given: str | Mapping[str, Any],
    namespace: str | None,
    folder: str | None = None,
    *,
    tell: Any = log,
) -> None:
    """
    Delete those of a device plugin's objects that Airfreight has created, unless there are other clusters.

    :param namespace: where to look for other clusters of Airfreight's; by default the connection's.
    """
    kube = api(connection)
    text = _plugin(given, folder)
    if others := kube.list(namespace or kube.place()[1]):
        names = ", ".join(each["name"] for each in others[:3])
        tell.info("the device plugin stays: there are other clusters (%s)", names)
        return
    for what in kube.delete_objects([text]):
        tell.info("deleted %s", what)


def _plugin(given: str | Mapping[str, Any], folder: str | None) -> str:
    return text_of(given, folder, "gpu_device_plugin_yaml")[0] if isinstance(given, str) else json.dumps(given)


# Manifests


def read(source: str) -> Manifests:
    """
    The manifests at a place.

    :param source: a file or URL of YAML with all objects, or a folder or URL with a ``kustomization.yaml``.
    :raises InvalidError: the kustomization does more than list objects and choose namespace and images.
    """
    if source.endswith((".yaml", ".yml")) and not source.endswith(_KUSTOMIZATION):
        return Manifests((text_of(source, None, "kuberay_manifests")[0],))
    return _kustomized(source.removesuffix(_KUSTOMIZATION).rstrip("/") + "/", 0)


def _kustomized(base: str, depth: int) -> Manifests:
    place = f"{base}{_KUSTOMIZATION}"
    if depth > _DEPTH_MAX:
        raise InvalidError(f"{place} is included by itself, or too deep")
    text, where = text_of(place, None, "kuberay_manifests")
    found = parse(text, where)
    if not isinstance(found, dict):
        raise InvalidError(f"{where} is no kustomization: it holds {type(found).__name__}")
    if unknown := sorted(set(found) - _FOLLOWED):
        raise InvalidError(
            f"{where} asks for {', '.join(unknown)}, which is not followed",
            "render it with `kubectl kustomize`, and let the connection's kuberay_manifests name the result",
        )
    texts: list[str] = []
    images: dict[str, str] = {}
    namespace = None
    for entry in [*(found.get("resources") or ()), *(found.get("bases") or ())]:
        there = urljoin(base, str(entry)) if "://" in base else f"{base}{entry}"
        inner = (
            Manifests((text_of(there, None, "kuberay_manifests")[0],))
            if there.endswith((".yaml", ".yml"))
            else _kustomized(there.rstrip("/") + "/", depth + 1)
        )
        texts += inner.texts
        images |= inner.images
        namespace = namespace or inner.namespace
    for image in found.get("images") or ():
        name = str(image["name"])
        tag = f"@{image['digest']}" if image.get("digest") else f":{image['newTag']}" if image.get("newTag") else ""
        images[name] = f"{image.get('newName') or name}{tag}"
    return Manifests(tuple(texts), found.get("namespace") or namespace, images)
