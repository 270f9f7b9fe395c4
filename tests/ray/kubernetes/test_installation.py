"""
Goal: KubeRay and device plugins are installed when a task asks, from manifests at any place, and never otherwise.

Method: a Kubernetes that needs none and knows no KubeRay at first; manifests of the shape of KubeRay's own. Nobody
runs the operator here.
"""

from __future__ import annotations

import functools
import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from airfreight.errors import DeniedError, InvalidError, UnavailableError
from airfreight.hooks.ray import RayHook
from airfreight.operators.ray import DeleteRayCluster, SetupRayCluster, SubmitRayJob
from airfreight.ray import installation
from ray_home.kube_server import NAMESPACE, KubeServer, description

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Task
    from ray_home.fault_server import FaultServer

VERSION = "1.7.0"
PLUGIN = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "gpu-plugin"},
    "spec": {"template": {"spec": {"containers": [{"image": "nvidia/k8s-device-plugin:v0.9.0"}]}}},
}


def manifests(folder: Path) -> Path:
    """A release in KubeRay's own layout; the folder of its outermost kustomization."""
    files: dict[str, list[dict[str, Any]]] = {
        "crd/kustomization.yaml": [{"resources": ["bases/rayclusters.yaml", "bases/rayjobs.yaml"]}],
        "rbac/kustomization.yaml": [
            {"resources": ["role.yaml", "account.yaml"], "labels": [{"pairs": {"app.kubernetes.io/name": "kuberay"}}]}
        ],
        "rbac/role.yaml": [
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "kuberay"}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "kuberay"},
                "subjects": [{"kind": "ServiceAccount", "name": "kuberay"}],
            },
        ],
        "rbac/account.yaml": [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "kuberay"}}],
        "manager/kustomization.yaml": [{"resources": ["manager.yaml"]}],
        "manager/manager.yaml": [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "kuberay-operator", "namespace": "system"},
                "spec": {"template": {"spec": {"containers": [{"image": "kuberay/operator"}]}}},
            }
        ],
        "default/kustomization.yaml": [
            {
                "namespace": NAMESPACE,
                "resources": ["../crd", "../rbac", "../manager"],
                "images": [
                    {"name": "kuberay/operator", "newName": "quay.io/kuberay/operator", "newTag": f"v{VERSION}"}
                ],
            }
        ],
    }
    for plural in ("rayclusters", "rayjobs"):
        files[f"crd/bases/{plural}.yaml"] = [
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.ray.io"},
                "spec": {"group": "ray.io"},
            }
        ]
    for name, documents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump_all(documents))
    return folder / "default"


@pytest.fixture
def bare(server: FaultServer, connect: Callable[..., None], tmp_path: Path) -> Iterator[KubeServer]:
    """An API server that knows no KubeRay, with a release in a folder that the connection names."""
    manifests(tmp_path / f"v{VERSION}")
    with KubeServer.start("--no-operator", "--dashboard", f"127.0.0.1:{server.port}") as kube:
        place = f"{tmp_path}/v{{version}}/default"
        connect({"kube_config_path": str(kube.kubeconfig), "patience": 5, "kuberay_manifests": place})
        yield kube


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder as a web server has it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def setup(task: Task, **options: Any) -> None:
    options = {"task_id": "setup", "conn_id": "ray_default", "ray_cluster_yaml": description(), **options}
    SetupRayCluster(**options).execute(task.context)


def operator(kube: KubeServer) -> dict[str, Any] | None:
    return kube.object("kuberay-operator", "deployments")


def test_nothing_is_installed_unless_a_task_asks(bare: KubeServer, task: Task) -> None:
    with pytest.raises(AirflowFailException, match="install it where they name a kuberay_version"):
        setup(task)
    assert bare.requests("PATCH", "deployments") == []


def test_the_default_is_of_a_type_that_airflow_can_send() -> None:
    setup = SetupRayCluster(task_id="setup", conn_id="ray_default", ray_cluster_yaml={})
    submit = SubmitRayJob(task_id="train", entrypoint="true")
    assert [type(each.kuberay_version) for each in (setup, submit)] == [str, str]


def test_a_cluster_comes_up_where_there_was_no_operator(bare: KubeServer, task: Task) -> None:
    setup(task, kuberay_version=VERSION)

    assert bare.names() == ["demo"]
    found = operator(bare)
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == f"quay.io/kuberay/operator:v{VERSION}"
    assert found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "airfreight"


def test_a_job_with_a_cluster_of_its_own_installs_it_as_well(bare: KubeServer, task: Task) -> None:
    SubmitRayJob(
        task_id="train", entrypoint="true", ray_cluster_yaml=description(), kuberay_version=f"v{VERSION}"
    ).execute(task.context)
    assert operator(bare) is not None
    assert bare.names() == []


def test_an_operator_that_is_there_stays(bare: KubeServer, task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    setup(task, kuberay_version=VERSION)
    bare.control("DELETE", "/requests")
    setup(task, kuberay_version="1.2.2")
    assert bare.requests("PATCH", "deployments") == []
    assert f"KubeRay {VERSION} is there and stays, although kuberay_version is 1.2.2" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["folder", "file", "url", "url of a file"])
def test_manifests_are_read_from_everywhere(
    kind: str, bare: KubeServer, connect: Callable[..., None], tmp_path: Path
) -> None:
    folder = manifests(tmp_path / "release")
    everything = tmp_path / "all.yaml"
    texts = installation.read(str(folder)).texts
    everything.write_text("---\n".join(texts))
    with served(tmp_path) as url:
        place = {
            "folder": str(folder),
            "file": str(everything),
            "url": f"{url}/release/default",
            "url of a file": f"{url}/all.yaml",
        }[kind]
        connect({"kube_config_path": str(bare.kubeconfig), "patience": 5, "kuberay_manifests": place})
        RayHook().install_kuberay_operator(VERSION)
    namespace = "system" if "file" in kind else NAMESPACE
    assert bare.control("GET", f"/objects/deployments/{namespace}") == ["kuberay-operator"]


def test_missing_rights_are_named_and_nothing_is_written(bare: KubeServer) -> None:
    bare.control("POST", "/deny", {"verb": "create", "resource": "customresourcedefinitions"})
    with pytest.raises(DeniedError, match=r"create customresourcedefinitions\.apiextensions\.k8s\.io"):
        RayHook().install_kuberay_operator(VERSION)
    assert bare.requests("PATCH") == []


@pytest.mark.parametrize("version", ["latest", "1.7", "../../../etc", "1.7.0/..", "1.7.0?x"])
def test_what_is_no_version_is_refused(version: str, bare: KubeServer, task: Task) -> None:
    with pytest.raises(AirflowFailException, match="is not a version"):
        setup(task, kuberay_version=version)
    assert bare.requests("PATCH") == []


def test_a_place_without_manifests_is_said(bare: KubeServer, connect: Callable[..., None], tmp_path: Path) -> None:
    def install(place: str) -> None:
        connect({"kube_config_path": str(bare.kubeconfig), "patience": 5, "kuberay_manifests": place})
        RayHook().install_kuberay_operator(VERSION)

    with pytest.raises(InvalidError, match=f"cannot read kuberay_manifests `{tmp_path}/none/kustomization.yaml`"):
        install(f"{tmp_path}/none")
    with served(tmp_path) as url, pytest.raises(UnavailableError, match=f"cannot fetch kuberay_manifests from {url}/"):
        install(f"{url}/none")


@pytest.mark.parametrize("field", ["patches", "namePrefix", "configMapGenerator", "components"])
def test_a_kustomization_that_does_more_is_refused(field: str, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [], field: ["x"]}))
    with pytest.raises(InvalidError, match=f"asks for {field}, which is not followed"):
        installation.read(str(tmp_path))


def test_a_kustomization_that_includes_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["."]}))
    with pytest.raises(InvalidError, match="is included by itself, or too deep"):
        installation.read(str(tmp_path))


# Device plugins


@pytest.mark.parametrize("kind", ["dict", "text", "path"])
def test_a_device_plugin_comes_with_the_cluster_and_goes_with_the_last(
    kind: str, kube: KubeServer, task: Task, tmp_path: Path
) -> None:
    text = yaml.safe_dump(PLUGIN)
    (tmp_path / "plugin.yaml").write_text(text)
    plugin = {"dict": PLUGIN, "text": text, "path": str(tmp_path / "plugin.yaml")}[kind]
    setup(task, gpu_device_plugin_yaml=plugin)
    setup(task, gpu_device_plugin_yaml=plugin, ray_cluster_yaml=description("other"))
    assert kube.names("daemonsets") == ["gpu-plugin"]

    def delete(name: str) -> None:
        DeleteRayCluster(
            task_id="delete",
            conn_id="ray_default",
            ray_cluster_yaml=description(name),
            gpu_device_plugin_yaml=plugin,
        ).execute(task.context)

    delete("demo")
    assert kube.names("daemonsets") == ["gpu-plugin"]
    delete("other")
    assert kube.names("daemonsets") == []


def test_a_device_plugin_of_somebody_else_stays_as_it_is(kube: KubeServer, task: Task) -> None:
    theirs = {"metadata": {"name": "gpu-plugin"}, "spec": {"theirs": True}}
    kube.control("POST", f"/objects/daemonsets/{NAMESPACE}", theirs)
    setup(task, gpu_device_plugin_yaml=PLUGIN)
    DeleteRayCluster(
        task_id="delete", conn_id="ray_default", ray_cluster_yaml=description(), gpu_device_plugin_yaml=PLUGIN
    ).execute(task.context)
    found = kube.object("gpu-plugin", "daemonsets")
    assert found is not None
    assert found["spec"] == {"theirs": True}


def test_a_device_plugin_of_another_kind_is_refused(kube: KubeServer, task: Task) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    with pytest.raises(AirflowFailException, match="Pod `p` of v1 is none of the kinds that are applied"):
        setup(task, gpu_device_plugin_yaml=pod)
    assert kube.names() == []


def test_the_hook_has_the_old_one_s_methods(kube: KubeServer) -> None:
    hook = RayHook()
    assert hook.get_daemon_set("gpu-plugin") is None
    hook.create_daemon_set("gpu-plugin", PLUGIN)
    found = hook.get_daemon_set("gpu-plugin")
    assert found is not None
    assert found["spec"]["template"] == PLUGIN["spec"]["template"]
    hook.delete_daemon_set("gpu-plugin")
    assert hook.get_daemon_set("gpu-plugin") is None
    with pytest.raises(InvalidError, match="clusters of everybody else would go with it"):
        hook.uninstall_kuberay_operator()
