"""Checkpoints in a real Airflow: the store loses a value, a task runs again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._remote import Bucket
from airfreight._store import Store

if TYPE_CHECKING:
    from airflow_home import AirflowHome
    from bucket_home import S3Server

CONNECTION = "checkpoint_test"


@pytest.fixture(scope="module")
def bucket(airflow: AirflowHome, s3: S3Server) -> Bucket:
    """The bucket of the DAGs' connection."""
    url = s3.make_bucket("checkpoint-test")
    extra = {
        "endpoint_url": s3.endpoint,
        "region_name": "us-east-1",
        "bucket_name": "checkpoint-test",
        "prefix": "airflow",
    }
    connection = {"connection_id": CONNECTION, "conn_type": "aws", "login": "test", "password": "test-secret"}
    airflow.request("POST", "/connections", connection | {"extra": json.dumps(extra)})
    return Bucket(f"{url}/airflow", s3.options, environment=False)


@pytest.fixture
def store(airflow: AirflowHome, airflow_env: dict[str, str]) -> Store:
    return Store(
        airflow_env["AIRFLOW__AIRFREIGHT__STORE_PATH"], spill_path=airflow_env["AIRFLOW__AIRFREIGHT__SPILL_PATH"]
    )


def lose(store: Store, run_id: str) -> int:
    """Takes all of a run's values from this host; returns how many there were."""
    names = [n for n in store.names() if (store.describe(n)["metadata"].get("owner") or {}).get("run_id") == run_id]
    return sum(store.delete(name) for name in names)


def log_of(airflow: AirflowHome, dag_id: str, run_id: str, task_id: str, try_number: int) -> str:
    events: list[dict[str, Any]] = airflow.log(dag_id, run_id, task_id, try_number=try_number)
    return "\n".join(json.dumps(event, ensure_ascii=False) for event in events)


def keys(bucket: Bucket, dag_id: str) -> list[str]:
    return sorted(entry["key"] for entry in bucket.list() if f"/{dag_id}/" in entry["key"])


def test_a_value_lost_from_the_store_is_read_from_the_bucket(
    airflow: AirflowHome, bucket: Bucket, store: Store
) -> None:
    run_id = airflow.run("checkpoint_whole_dag")
    row = airflow.xcom("checkpoint_whole_dag", run_id, "make")
    assert keys(bucket, "checkpoint_whole_dag") == sorted(
        [row["bucket"]["key"], row["bucket"]["key"].rpartition("/")[0] + "/newest"]
    )
    assert "test-secret" not in json.dumps(row)
    assert lose(store, run_id) == 1

    airflow.clear("checkpoint_whole_dag", run_id, ["look"])
    airflow.wait("checkpoint_whole_dag", run_id)
    assert airflow.xcom("checkpoint_whole_dag", run_id, "look") == 200_000
    assert f"reading its checkpoint s3://checkpoint-test/airflow/{row['bucket']['key']}" in log_of(
        airflow, "checkpoint_whole_dag", run_id, "look", 2
    )

    airflow.clear("checkpoint_whole_dag", run_id)
    airflow.wait("checkpoint_whole_dag", run_id)
    again = airflow.xcom("checkpoint_whole_dag", run_id, "make")
    assert again["bucket"]["key"] != row["bucket"]["key"]
    assert row["bucket"]["key"] not in keys(bucket, "checkpoint_whole_dag"), "clearing deleted it"


def test_a_task_that_runs_again_takes_its_checkpoint(airflow: AirflowHome, bucket: Bucket, store: Store) -> None:
    run_id = airflow.run("checkpoint_reused")
    first = airflow.xcom("checkpoint_reused", run_id, "look")
    lose(store, run_id)

    airflow.clear("checkpoint_reused", run_id)
    airflow.wait("checkpoint_reused", run_id)
    second = airflow.xcom("checkpoint_reused", run_id, "look")
    assert (second[0], second[1]) == (first[0], first[1] + 1), "the same random numbers"
    log = log_of(airflow, "checkpoint_reused", run_id, "train", 2)
    assert "task train does not run: its value is taken from the checkpoint s3://checkpoint-test/airflow/" in log
