"""
Goal: the API server that stands in for Kubernetes is one to somebody who knows only real ones. Method: ``kubectl``,
where it is installed, makes, watches, changes and deletes what our own client does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._remote import KubeClusters
from ray_home.kube_server import NAMESPACE, KubeServer, description

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@pytest.fixture
def kubectl(kube: KubeServer, tmp_path: Path) -> Callable[..., str]:
    """Runs a command, with an object as its input; what it prints."""

    def run(*arguments: str, given: Any = None, code: int = 0) -> str:
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={kube.kubeconfig}", f"--cache-dir={tmp_path}", *arguments],
            input=None if given is None else json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


def test_it_finds_what_is_served(kubectl: Callable[..., str]) -> None:
    served = kubectl("api-resources", "--api-group=ray.io", "-o", "name").split()
    assert {"rayclusters.ray.io", "rayjobs.ray.io", "rayservices.ray.io"} <= set(served)


def test_it_makes_waits_for_and_deletes_a_cluster(kubectl: Callable[..., str], kube: KubeServer) -> None:
    apply = ("apply", "--server-side", "--validate=false", "-f", "-")
    assert "serverside-applied" in kubectl(*apply, given=description())
    kubectl("wait", "--for=condition=RayClusterProvisioned", "raycluster/demo", "--timeout=30s")
    found = json.loads(kubectl("get", "rayclusters", "demo", "-o", "json"))
    assert found["status"]["head"]["serviceName"] == "demo-head-svc"
    pods = json.loads(kubectl("get", "pods", "-l", "ray.io/cluster=demo", "-o", "json"))["items"]
    assert [pod["metadata"]["labels"]["ray.io/node-type"] for pod in pods] == ["head"]
    kubectl("delete", "raycluster", "demo", "--timeout=30s")
    assert kube.names() == []
    assert "not found" in kubectl("get", "raycluster", "demo", code=1)


def test_it_sees_what_our_own_client_makes(kubectl: Callable[..., str], kube: KubeServer) -> None:
    ours = KubeClusters(kubeconfig_path=str(kube.kubeconfig))
    ours.apply(description())
    kubectl("label", "raycluster", "demo", "team=a")
    assert kubectl("get", "rayclusters", "-l", "team=a", "-o", "name") == "raycluster.ray.io/demo\n"
    known = ours.get(NAMESPACE, "demo")
    assert known is not None
    assert known["object"]["metadata"]["labels"]["team"] == "a"


def test_who_has_changed_the_workers_is_named(kubectl: Callable[..., str], kube: KubeServer) -> None:
    KubeClusters(kubeconfig_path=str(kube.kubeconfig)).apply(description())
    change = description()
    change["spec"]["workerGroupSpecs"][0]["replicas"] = 2
    refused = kubectl("apply", "--server-side", "--validate=false", "-f", "-", given=change, code=1)
    assert 'conflict with "airfreight"' in refused
    kubectl("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-", given=change)
    found = kube.object("demo")
    assert found is not None
    assert found["spec"]["workerGroupSpecs"][0]["replicas"] == 2


def test_what_it_may_not_do_it_is_told(kubectl: Callable[..., str], kube: KubeServer) -> None:
    kube.control("POST", "/deny", {"verb": "delete", "resource": "rayclusters"})
    kubectl("apply", "--server-side", "--validate=false", "-f", "-", given=description())
    assert kubectl("auth", "can-i", "list", "rayclusters.ray.io").strip() == "yes"
    assert 'cannot delete resource "rayclusters"' in kubectl("delete", "raycluster", "demo", code=1)
