r"""
A Kubernetes API server without Kubernetes, and an operator that does what a script says (crates/airfreight-testkit).

.. code-block:: python

    with KubeServer.start("--dashboard", "127.0.0.1:8265") as server:
        server.control("POST", "/script", {"script": "crash-loop"})
        print(server.names("rayclusters"))
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).parents[2]

#: The kubeconfig's.
NAMESPACE = "demo"


def description(name: str = "demo", script: str | None = None, **metadata: Any) -> dict[str, Any]:
    """A small cluster; ``script`` is what the operator does with it."""
    group = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray"}]}}}
    if script is not None:
        metadata["annotations"] = {"test/script": script}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": name, **metadata},
        "spec": {
            "rayVersion": "2.60.0",
            "headGroupSpec": group,
            "workerGroupSpecs": [
                {"groupName": "small", "replicas": 1, "minReplicas": 0, "maxReplicas": 2, **group},
            ],
        },
    }


class KubeServer:
    """
    A running API server; :meth:`start` makes one, leaving the context ends it.

    :param options: the program's, such as ``--script quota``.
    """

    def __init__(self, options: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="airfreight-kube-")
        self.kubeconfig = Path(self._folder.name, "kubeconfig")
        self._process = subprocess.Popen(
            [_program(), "--kubeconfig", self.kubeconfig, *options], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port: int = json.loads(self._process.stdout.readline())["port"]

    @classmethod
    def start(cls, *options: str) -> Self:
        """
        Return when it listens.

        The program is built if need be, unless ``AIRFREIGHT_KUBE_SERVER`` names one.
        """
        return cls(options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Tell it what to do or ask what it has, as ``kube/control.rs`` says; ``path`` begins after ``/_control``."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/_control{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            text = answer.read().decode()
        return json.loads(text) if text else None

    def script(self, name: str, pause_ms: int | None = None) -> None:
        """What becomes of clusters that are made from now on."""
        self.control("POST", "/script", {"script": name, **({} if pause_ms is None else {"pause_ms": pause_ms})})

    def names(self, plural: str = "rayclusters") -> list[str]:
        """The names of all objects of a kind."""
        names: list[str] = self.control("GET", f"/objects/{plural}/{NAMESPACE}")
        return names

    def object(self, name: str, plural: str = "rayclusters") -> dict[str, Any] | None:
        """An object as it is now."""
        try:
            found: dict[str, Any] = self.control("GET", f"/objects/{plural}/{NAMESPACE}/{name}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return found

    def requests(self, method: str, part: str = "") -> list[str]:
        """The paths of the requests of a method that have arrived."""
        seen = self.control("GET", "/requests")
        return [each["path"] for each in seen if each["method"] == method and part in each["path"]]

    def reset(self) -> None:
        """As if it had just started."""
        self.control("DELETE", "")
        self.script("healthy", 20)
        for plural in ("rayjobs", "rayservices", "rayclusters", "pods", "services", "secrets", "daemonsets"):
            for name in self.names(plural):
                self.control("DELETE", f"/objects/{plural}/{NAMESPACE}/{name}")
        self.control("DELETE", "/requests")


@functools.cache
def _program() -> Path:
    if given := os.environ.get("AIRFREIGHT_KUBE_SERVER"):
        return Path(given)
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--package", "airfreight-testkit", "--bin", "kubernetes"],
        cwd=REPOSITORY,
        check=True,
    )
    return REPOSITORY / "target" / "debug" / "kubernetes"
