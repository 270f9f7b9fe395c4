"""
Goal: clusters come and go with Airflow's tasks, whoever dies meanwhile.

Method: a real Airflow, and a real Ray behind the forwarded ports of a Kubernetes that needs none; workers and
triggerers are killed with SIGKILL, tasks are marked.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_home import AirflowHome
from ray_home.kube_server import NAMESPACE, KubeServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_home import RayHome

COUNTING = 'for i in $(seq 60); do echo "line $i"; sleep 0.5; done'
FOREVER = "echo begun; sleep 3600"
NAMES = {"kube_deferred": "kube-deferred", "kube_in_worker": "kube-in-worker"}


@pytest.fixture(scope="module")
def kube(ray_home: RayHome) -> Iterator[KubeServer]:
    with KubeServer.start("--dashboard", ray_home.address.removeprefix("http://")) as server:
        yield server


@pytest.fixture(scope="module")
def airflow(kube: KubeServer, airflow_env: dict[str, str], request: pytest.FixtureRequest) -> Iterator[AirflowHome]:
    extra = {"kube_config_path": str(kube.kubeconfig)}
    env = {
        **airflow_env,
        "AIRFLOW_CONN_RAY_KUBERNETES": json.dumps({"conn_type": "ray", "extra": extra}),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    }
    venv = os.environ.get("AIRFREIGHT_AIRFLOW_VENV")
    with AirflowHome(Path(__file__).with_name("dags"), env=env, venv=Path(venv).absolute() if venv else None) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that the tests used are in {home.folder}")


@pytest.mark.parametrize("dag_id", NAMES)
def test_a_job_has_a_cluster_of_its_own(dag_id: str, airflow: AirflowHome, kube: KubeServer, ray_home: RayHome) -> None:
    run = airflow.run(dag_id, {"command": "echo hello; sleep 8", "script": "recovers"})
    (job,) = jobs(ray_home, run)
    assert (job["status"], airflow.xcom(dag_id, run, "job")) == ("SUCCEEDED", job["submission_id"])
    said = messages(airflow, dag_id, run)
    name = f"{NAMESPACE}/{NAMES[dag_id]}"
    assert f"created RayCluster {name}" in said
    assert any("waits for a node: 0/3 nodes are available" in line for line in said)
    assert said.index(f"RayCluster {name} is ready") < said.index("hello") < said.index(f"deleted RayCluster {name}")
    assert NAMES[dag_id] not in kube.names()


@pytest.mark.parametrize("dag_id", NAMES)
def test_marking_a_task_failed_deletes_its_cluster(
    dag_id: str, airflow: AirflowHome, kube: KubeServer, ray_home: RayHome
) -> None:
    run = airflow.trigger(dag_id, {"command": FOREVER})
    until(lambda: bool(jobs(ray_home, run)), "a job")
    in_place(airflow, dag_id, run)
    mark_failed(airflow, dag_id, run)
    until(lambda: NAMES[dag_id] not in kube.names(), "the cluster to go")
    stop(ray_home, run)


@pytest.mark.parametrize("dag_id", NAMES)
def test_a_task_that_is_killed_before_its_cluster_serves_deletes_it(
    dag_id: str, airflow: AirflowHome, kube: KubeServer
) -> None:
    run = airflow.trigger(dag_id, {"script": "unschedulable"})
    until(lambda: NAMES[dag_id] in kube.names(), "a cluster")
    in_place(airflow, dag_id, run)
    mark_failed(airflow, dag_id, run)
    until(lambda: NAMES[dag_id] not in kube.names(), "the cluster to go")


@pytest.mark.parametrize("dag_id", NAMES)
def test_a_cluster_goes_with_each_attempt_that_fails(dag_id: str, airflow: AirflowHome, kube: KubeServer) -> None:
    run = airflow.trigger(dag_id, {"script": "crash-loop"})
    airflow.wait(dag_id, run, expect="failed")
    assert "its log ends with" in failure(airflow, dag_id, run)
    assert NAMES[dag_id] not in kube.names()
    assert len(kube.requests("PATCH", f"/{NAMES[dag_id]}")) >= 2


def test_the_next_attempt_takes_over_the_cluster_of_a_killed_worker(
    airflow: AirflowHome, kube: KubeServer, ray_home: RayHome
) -> None:
    run = airflow.trigger("kube_in_worker", {"command": COUNTING})
    until(lambda: bool(jobs(ray_home, run)), "a job")
    cluster = kube.object(NAMES["kube_in_worker"])
    kill_worker(airflow, "kube_in_worker", run)
    until(lambda: instance(airflow, "kube_in_worker", run)["try_number"] == 2, "a second attempt")
    until(lambda: instance(airflow, "kube_in_worker", run)["state"] == "running", "it to run")
    later = kube.object(NAMES["kube_in_worker"])
    assert cluster is not None
    assert later is not None
    assert later["metadata"]["uid"] == cluster["metadata"]["uid"]
    airflow.wait("kube_in_worker", run)
    assert len(jobs(ray_home, run)) == 1
    assert NAMES["kube_in_worker"] not in kube.names()


@pytest.mark.parametrize(("script", "command"), [("unschedulable", "true"), ("healthy", COUNTING)])
def test_a_killed_triggerer_is_resumed(
    script: str, command: str, airflow: AirflowHome, kube: KubeServer, ray_home: RayHome
) -> None:
    name = NAMES["kube_deferred"]
    run = airflow.trigger("kube_deferred", {"command": command, "script": script})
    until(lambda: name in kube.names(), "a cluster")
    in_place(airflow, "kube_deferred", run)
    airflow.components["triggerer"].signal(signal.SIGKILL)
    airflow.restart("triggerer")
    assert name in kube.names()
    if script == "unschedulable":
        # A node has come.
        conditions = [{"type": each, "status": "True"} for each in ("HeadPodReady", "RayClusterProvisioned")]
        found = kube.object(name)
        assert found is not None
        found["status"]["conditions"] = conditions
        kube.control("POST", f"/objects/rayclusters/{NAMESPACE}", found)
    airflow.wait("kube_deferred", run)
    assert len(jobs(ray_home, run)) == 1
    assert name not in kube.names()


@pytest.mark.parametrize(("command", "end"), [("true", "success"), ("exit 3", "failed")])
def test_setup_and_teardown_stand_around_the_tasks(
    command: str, end: str, airflow: AirflowHome, kube: KubeServer
) -> None:
    run = airflow.trigger("kube_shared", {"command": command})
    airflow.wait("kube_shared", run, expect=end)
    assert airflow.xcom("kube_shared", run, "setup", "dashboard") == f"kubernetes://{NAMESPACE}/kube-shared"
    states = {each["task_id"]: each["state"] for each in airflow.task_instances("kube_shared", run)}
    assert states == {"setup": "success", "job": end, "delete": "success"}
    assert "kube-shared" not in kube.names()


@pytest.mark.parametrize("mode", ["auto", "warm"])
def test_a_function_brings_its_value_home_before_its_cluster_goes(
    mode: str, airflow: AirflowHome, kube: KubeServer
) -> None:
    dag_id = f"kube_function_{mode}"
    run = airflow.run(dag_id)
    assert airflow.xcom(dag_id, run, "total") == sum(range(100_000))
    assert f"kube-function-{mode}" not in kube.names()


def jobs(ray_home: RayHome, run: str) -> list[dict[str, Any]]:
    return [job for job in ray_home.jobs() if (job.get("metadata") or {}).get("run_id") == run]


def stop(ray_home: RayHome, run: str) -> None:
    """The real Ray outlives the cluster that it plays."""
    for job in jobs(ray_home, run):
        ray_home.request("POST", f"/api/jobs/{job['submission_id']}/stop")


def instance(airflow: AirflowHome, dag_id: str, run: str) -> dict[str, Any]:
    (found,) = airflow.task_instances(dag_id, run, "job")
    return found


def in_place(airflow: AirflowHome, dag_id: str, run: str) -> None:
    """Return when the task waits where it will be waiting."""
    if dag_id == "kube_in_worker":
        airflow.wait_for_state(dag_id, run, "job", "running")
        return
    airflow.wait_for_state(dag_id, run, "job", "deferred")
    path = f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job"

    def runs() -> bool:
        trigger = airflow.request("GET", path)["trigger"]
        return bool(trigger and trigger["triggerer_id"]) and airflow.trigger_speaks(dag_id, run, "job")

    until(runs, "the trigger to run")


def kill_worker(airflow: AirflowHome, dag_id: str, run: str) -> None:
    """SIGKILL for the task and its supervisor, so that nobody can report."""
    task = instance(airflow, dag_id, run)["pid"]
    parent = int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (parent, task):
        os.kill(pid, signal.SIGKILL)


def mark_failed(airflow: AirflowHome, dag_id: str, run: str) -> None:
    airflow.request("PATCH", f"/dags/{dag_id}/dagRuns/{run}/taskInstances/job", {"new_state": "failed"})


def messages(airflow: AirflowHome, dag_id: str, run: str) -> list[str]:
    return [str(line["event"]) for line in airflow.log(dag_id, run, "job")]


def failure(airflow: AirflowHome, dag_id: str, run: str) -> str:
    return "\n".join(
        str(error["exc_value"]) for line in airflow.log(dag_id, run, "job") for error in line.get("error_detail") or ()
    )


def until(condition: Callable[[], bool], what: str, timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.2)
