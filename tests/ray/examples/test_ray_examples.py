"""Goal: the examples for Ray do what they say. Method: run each on a real Airflow and a real Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import yaml

from airflow_home.settings import free_port

if TYPE_CHECKING:
    from airflow_home import AirflowHome
    from ray_home import RayHome
    from ray_home.kube_server import KubeServer

#: Ray Data starts a process for each step, on a busy machine for minutes.
pytestmark = pytest.mark.timeout(900)

EXAMPLES = Path(__file__).parents[3] / "examples"
#: Where the curve of `trend` leads; the cluster computes it with the NumPy that the tests have.
TREND = -363.215737
#: Those that make clusters on Kubernetes.
WITH_CLUSTERS = {"own_cluster", "job_with_own_cluster", "setup_teardown", "kuberay_job"}


def log(airflow: AirflowHome, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[str]:
    return [entry["event"] for entry in airflow.log(dag_id, run_id, task_id, map_index)]


def jobs(ray: RayHome, run_id: str) -> list[dict[str, Any]]:
    return [job for job in ray.jobs() if (job["metadata"] or {}).get("run_id") == run_id]


def test_a_task_runs_on_a_cluster_that_is_there(examples_airflow: AirflowHome) -> None:
    run_id = examples_airflow.run("existing_cluster")
    assert examples_airflow.xcom("existing_cluster", run_id, "mean_of_squares") == pytest.approx(14 / 3)
    assert examples_airflow.xcom("existing_cluster", run_id, "check") is True
    assert "The mean of 3 squares is 4.67" in log(examples_airflow, "existing_cluster", run_id, "mean_of_squares")


def test_a_curve_comes_back(examples_airflow: AirflowHome) -> None:
    run_id = examples_airflow.run("trend")
    assert examples_airflow.xcom("trend", run_id, "predict") == pytest.approx(TREND)
    assert "Fitting 1000000 values" in log(examples_airflow, "trend", run_id, "fit")


def test_a_script_runs_as_a_job(examples_airflow: AirflowHome, ray_home: RayHome) -> None:
    run_id = examples_airflow.run("submit_script")
    job_id = examples_airflow.xcom("submit_script", run_id, "hello")
    assert ray_home.job(job_id)["status"] == "SUCCEEDED"
    assert "Hello Airflow" in log(examples_airflow, "submit_script", run_id, "hello")


def test_a_configuration_comes_from_the_run(examples_airflow: AirflowHome) -> None:
    run_id = examples_airflow.run("dynamic_config_parent")
    totals = {
        name: examples_airflow.xcom("dynamic_config_child", f"{name}-of-{run_id}", "total")
        for name in ("north", "anywhere")
    }
    assert totals == {"north": {"region": "north", "total": 6}, "anywhere": {"region": "everywhere", "total": 6}}


def test_ray_data_sums_up_a_year_of_weather(examples_airflow: AirflowHome, tmp_path: Path) -> None:
    run_id = examples_airflow.run("data_etl", {"folder": str(tmp_path)})
    summary = examples_airflow.xcom("data_etl", run_id, "transform")
    assert summary == {"days": 1092, "path": f"{tmp_path}/daily"}
    warmest = examples_airflow.xcom("data_etl", run_id, "load")
    assert warmest.startswith("2013-07-")
    assert "of 1092 days" in warmest


def test_a_batch_is_predicted_where_it_lies(examples_airflow: AirflowHome, tmp_path: Path) -> None:
    run_id = examples_airflow.run("batch_inference", {"folder": str(tmp_path)})
    summary = examples_airflow.xcom("batch_inference", run_id, "check")
    assert summary["rows"] == 597
    assert summary["accuracy"] > 0.9
    assert list((tmp_path / "predicted").glob("*.parquet"))


def test_a_model_that_is_better_becomes_the_champion(examples_airflow: AirflowHome, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    (registry / "1").mkdir(parents=True)
    (registry / "champion").mkdir()
    (registry / "champion" / "card.json").write_text(json.dumps({"version": 1, "auc": 0.9, "trees": 1}))
    seen = []
    for trees in (60, 1):
        run_id = examples_airflow.run("model_registry", {"registry": registry.as_uri(), "trees": trees})
        seen.append(examples_airflow.xcom("model_registry", run_id, "promote"))
    assert seen == [
        {"champion": 2, "challenger": 2, "promoted": True},
        {"champion": 2, "challenger": 3, "promoted": False},
    ]
    assert json.loads((registry / "champion" / "card.json").read_text())["trees"] == 60
    program = "import sys, xgboost; print(xgboost.Booster(model_file=sys.argv[1]).num_boosted_rounds())"
    model = registry / "2" / "model.ubj"
    done = subprocess.run([sys.executable, "-c", program, model], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "60"


def test_a_model_goes_on_answering_after_its_run(examples_airflow: AirflowHome, ray_home: RayHome) -> None:
    port = free_port()
    run_id = examples_airflow.run("serve", {"port": port})
    assert examples_airflow.xcom("serve", run_id, "answers") == {"kind": "setosa"}
    (job,) = jobs(ray_home, run_id)
    assert job["status"] == "RUNNING"
    flower = Request(f"http://127.0.0.1:{port}/iris", b"[6.3, 3.3, 6.0, 2.5]", {"Content-Type": "application/json"})
    # Without the proxies that the environment may name.
    opener = build_opener(ProxyHandler({}))
    with opener.open(flower, timeout=30) as answer:
        assert json.load(answer) == {"kind": "virginica"}
    ray_home.request("POST", f"/api/jobs/{job['submission_id']}/stop")
    ray_home.wait_for_job(job["submission_id"], ("STOPPED",))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # until Serve's own actors are gone, too
        try:
            opener.open(flower, timeout=30).close()
        except (URLError, ConnectionError, TimeoutError):
            break
        time.sleep(0.5)
    else:
        # The tests after this one have the same cluster.
        ray_home.request("DELETE", "/api/serve/applications/")
        pytest.fail("Serve still answers two minutes after its job was stopped")


@pytest.mark.parametrize("step", ["notebook", "tumours"])
def test_the_notebook_runs_without_airflow(step: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "notebook" / f"{step}.py"], capture_output=True, text=True, check=True
    )
    assert "0.9969 on 143 tumours" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("dag_id", ["tumours_as_tasks", "tumours_on_ray", "tumours_swept"])
def test_the_notebook_s_tasks_find_what_the_notebook_found(examples_airflow: AirflowHome, dag_id: str) -> None:
    run_id = examples_airflow.run(dag_id)
    assert examples_airflow.xcom(dag_id, run_id, "judge") == 0.9969


def test_every_example_is_imported_and_those_on_kubernetes_say_so(examples_airflow: AirflowHome) -> None:
    ids = {path.stem for path in (EXAMPLES / "ray").glob("*.py")} - {"dynamic_config"} | {"dynamic_config_child"}
    for dag_id in sorted(ids):
        examples_airflow.wait_for_dag(dag_id)
    assert examples_airflow.request("GET", "/importErrors")["import_errors"] == []
    tagged = examples_airflow.request("GET", "/dags?tags=kubernetes")["dags"]
    assert {each["dag_id"] for each in tagged} == WITH_CLUSTERS


@pytest.mark.parametrize("dag_id", ["own_cluster", "job_with_own_cluster", "setup_teardown"])
def test_clusters_come_and_go(
    dag_id: str, examples_airflow: AirflowHome, examples_kube: KubeServer, ray_home: RayHome
) -> None:
    run_id = examples_airflow.run(dag_id)
    found = jobs(ray_home, run_id)
    assert {job["status"] for job in found} == {"SUCCEEDED"}
    assert len(found) == (2 if dag_id == "setup_teardown" else 1)
    if dag_id == "own_cluster":
        assert examples_airflow.xcom(dag_id, run_id, "mean_of_squares") == pytest.approx(14 / 3)
    assert examples_kube.requests("PATCH", "/rayclusters/airfreight-example")
    assert examples_kube.names() == []


def test_the_cluster_of_the_examples_is_one() -> None:
    cluster = yaml.safe_load((EXAMPLES / "ray" / "cluster.yaml").read_text())
    assert (cluster["kind"], cluster["apiVersion"]) == ("RayCluster", "ray.io/v1")


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "ray" / "README.md").read_text()
    for path in [*(EXAMPLES / "ray").glob("*.py"), *(EXAMPLES / "ray" / "scripts").glob("*.py")]:
        assert f"({path.relative_to(EXAMPLES / 'ray')})" in index, path.name
