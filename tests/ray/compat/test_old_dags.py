"""Goal: DAGs of the old packages run unchanged. Method: a real Airflow, configured as for them, and a real Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_home import AirflowHome
    from ray_home import RayHome


def test_a_dag_of_astro_s_gets_its_value_back(old_airflow: AirflowHome) -> None:
    run_id = old_airflow.run("astro")
    assert old_airflow.xcom("astro", run_id, "total") == 6


def test_a_dag_of_the_alpha_s_passes_frames_on(old_airflow: AirflowHome, ray_home: RayHome) -> None:
    run_id = old_airflow.run("alpha")
    assert old_airflow.xcom("alpha", run_id, "least") == sum(range(0, 60_000, 6))
    frame = old_airflow.xcom("alpha", run_id, "build")
    # By reference, in the store of the backend under its old name.
    assert (frame["type"], frame["preview"]["shape"]) == ("pandas.DataFrame", [10_000, 6])
    events = [entry["event"] for entry in old_airflow.log("alpha", run_id, "sum_columns")]
    assert "connection `never_defined` isn't defined, using `ray_cluster_connection`" in events
    pools = {each["task_id"]: each["pool"] for each in old_airflow.task_instances("alpha", run_id)}
    assert set(pools.values()) == {"ray_worker_pool"}
    jobs = [job for job in ray_home.jobs() if (job["metadata"] or {}).get("run_id") == run_id]
    assert [job["status"] for job in jobs] == ["SUCCEEDED"] * 3


def test_a_task_that_was_deferred_before_the_upgrade_ends_after_it(old_airflow: AirflowHome, ray_home: RayHome) -> None:
    run_id = old_airflow.trigger("astro_deferred")
    old_airflow.wait_for_state("astro_deferred", run_id, "waiting", "deferred")
    old_airflow.wait("astro_deferred", run_id)
    log = [entry["event"] for entry in old_airflow.log("astro_deferred", run_id, "waiting")]
    assert "it was worth the wait" in log
    job_id = old_airflow.xcom("astro_deferred", run_id, "waiting")
    assert ray_home.job(job_id)["status"] == "SUCCEEDED"
