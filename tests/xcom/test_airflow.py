"""The backend in a real Airflow: forked tasks, its scheduler, its API. The DAGs check what their tasks receive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airfreight._store import Store, sign_reference

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_home import AirflowHome


@pytest.fixture
def store(airflow: AirflowHome, airflow_env: dict[str, str]) -> Store:
    """The store that the tasks use."""
    return Store(
        airflow_env["AIRFLOW__AIRFREIGHT__STORE_PATH"], spill_path=airflow_env["AIRFLOW__AIRFREIGHT__SPILL_PATH"]
    )


def owners(store: Store, dag_id: str, run_id: str) -> list[tuple[str, str, int]]:
    """Task, key and try of every object that a run has in the store."""
    found = []
    for name in store.names():
        owner = store.describe(name)["metadata"].get("owner") or {}
        if (owner.get("dag_id"), owner.get("run_id")) == (dag_id, run_id):
            found.append((owner["task_id"], owner["key"], owner["try_number"]))
    return sorted(found)


def text_of(events: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(event, ensure_ascii=False) for event in events)


def put_row(airflow: AirflowHome, run_id: str, value: Any) -> None:
    """Writes an XCom row through the public API, as anyone may who has the right."""
    path = f"/dags/xcom_pulls/dagRuns/{run_id}/taskInstances/target/xcomEntries"
    if "given" in airflow.xcom_keys("xcom_pulls", run_id, "target"):
        airflow.request("PATCH", f"{path}/given", {"value": value, "map_index": -1})
    else:
        airflow.request("POST", path, {"key": "given", "value": value, "map_index": -1})


def pull_again(airflow: AirflowHome, run_id: str, expect: str) -> None:
    airflow.clear("xcom_pulls", run_id, ["pull"])
    airflow.wait("xcom_pulls", run_id, expect=expect)


def test_values_of_every_kind(airflow: AirflowHome, store: Store) -> None:
    run_id = airflow.run("xcom_values")
    assert airflow.xcom("xcom_values", run_id, "receive") == "received"
    row = airflow.xcom("xcom_values", run_id, "table")
    assert (row["type"], row["preview"]["shape"]) == ("pandas.DataFrame", [20_000, 3])
    assert store.path not in json.dumps(row)
    owners = {name: store.describe(name)["metadata"]["owner"] for name in store.names()}
    ours = {"dag_id": "xcom_values", "run_id": run_id, "task_id": "split"}
    split = [name for name, owner in owners.items() if ours.items() <= owner.items()]
    assert len({store.describe(name)["id"] for name in split}) == 2, "two parts, and the whole is made of them"


def test_a_task_finds_the_backend_loaded_and_no_library(airflow: AirflowHome) -> None:
    """What benches/worker.py imitates: the backend is imported once, in the worker; numpy and pandas in each task."""
    run_id = airflow.run("xcom_forked")
    assert airflow.xcom("xcom_forked", run_id, "look") == {"backend": ["_store"], "libraries": []}


def test_a_long_value_is_neither_logged_nor_rendered(airflow: AirflowHome) -> None:
    run_id = airflow.run("xcom_values")
    log = text_of(airflow.log("xcom_values", run_id, "numbers"))
    assert "99998, 99999" not in log
    assert "in brief" in log
    path = f"/dags/xcom_values/dagRuns/{run_id}/taskInstances/receive"
    rendered = json.dumps(airflow.request("GET", path)["rendered_fields"])
    assert "99998, 99999" not in rendered
    assert "in brief" in rendered
    assert "'rows': 5" in rendered or '"rows": 5' in rendered


def test_mapped_tasks_read_their_own_element(airflow: AirflowHome) -> None:
    run_id = airflow.run("xcom_mapping")
    assert airflow.xcom("xcom_mapping", run_id, "elements")["elements"] == 5


def test_across_dags_and_runs(airflow: AirflowHome) -> None:
    source = airflow.run("xcom_source")
    airflow.run("xcom_reader", conf={"run_id": source})
    counts = [airflow.xcom("xcom_prior", airflow.run("xcom_prior"), "look") for _ in range(3)]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]


def test_a_retry_replaces_what_the_first_try_pushed(airflow: AirflowHome, store: Store) -> None:
    run_id = airflow.run("xcom_again")
    assert airflow.xcom("xcom_again", run_id, "received") == 2
    assert owners(store, "xcom_again", run_id) == [("retried", "part", 2), ("retried", "return_value", 2)]


def test_a_cleared_task_runs_again(airflow: AirflowHome, store: Store) -> None:
    run_id = airflow.run("xcom_again")
    airflow.clear("xcom_again", run_id, ["received"])
    airflow.wait("xcom_again", run_id)
    airflow.clear("xcom_again", run_id)
    airflow.wait("xcom_again", run_id)
    assert airflow.xcom("xcom_again", run_id, "received") == 3
    assert owners(store, "xcom_again", run_id) == [("retried", "part", 3), ("retried", "return_value", 3)]


def test_a_killed_task_leaves_nothing_and_its_retry_succeeds(airflow: AirflowHome, store: Store) -> None:
    run_id = airflow.run("xcom_killed")
    assert owners(store, "xcom_killed", run_id) == [("killed", "part", 2), ("killed", "return_value", 2)]


def test_a_cleared_branch_is_skipped_again(airflow: AirflowHome) -> None:
    run_id = airflow.run("xcom_branch")
    for _ in range(2):
        states = {each["task_id"]: each["state"] for each in airflow.task_instances("xcom_branch", run_id)}
        assert states == {"choose": "success", "chosen": "success", "skipped": "skipped"}
        airflow.clear("xcom_branch", run_id, ["skipped"])
        airflow.wait("xcom_branch", run_id)


def test_two_runs_at_once(airflow: AirflowHome) -> None:
    run_ids = [airflow.trigger("xcom_values", run_id=f"at-once-{number}") for number in range(2)]
    for run_id in run_ids:
        airflow.wait("xcom_values", run_id)
        assert airflow.xcom("xcom_values", run_id, "receive") == "received"


def test_a_row_from_the_api(airflow: AirflowHome) -> None:
    run_id = airflow.run("xcom_pulls")
    assert airflow.xcom("xcom_pulls", run_id, "pull") == "None"
    for value in ({"a": [1, None]}, "text", [], {"airfreight": "a member of that name"}):
        put_row(airflow, run_id, value)
        pull_again(airflow, run_id, "success")
        assert airflow.xcom("xcom_pulls", run_id, "pull") == repr(value)


def test_a_forged_row_is_refused(airflow: AirflowHome, tmp_path: Path) -> None:
    run_id = airflow.run("xcom_pulls")
    real = airflow.xcom("xcom_pulls", run_id, "target")
    put_row(airflow, run_id, real)
    pull_again(airflow, run_id, "success")
    mark = tmp_path / "code ran"
    payload = "Y3Bvc2l4CnN5c3RlbQo="  # the beginning of a pickle that would run a command
    forged = json.loads(
        sign_reference(json.dumps({"airfreight": 1, "type": "list", "inline": payload}), [b"not this host's key"])
    )
    for row in (forged, {**real, "id": "0" * 32}, {name: real[name] for name in real if name != "hmac"}):
        put_row(airflow, run_id, row)
        pull_again(airflow, run_id, "failed")
        log = text_of(airflow.log("xcom_pulls", run_id, "pull"))
        assert "DeniedError" in log
        assert "hint: " in log
        assert "this host's key is" in log
    assert not mark.exists()


def test_a_lost_value_names_the_task_to_clear(airflow: AirflowHome, store: Store) -> None:
    run_id = airflow.run("xcom_again")
    store.delete(airflow.xcom("xcom_again", run_id, "retried")["id"])
    airflow.clear("xcom_again", run_id, ["received"])
    airflow.wait("xcom_again", run_id, expect="failed")
    log = text_of(airflow.log("xcom_again", run_id, "received"))
    assert "ObjectLostError" in log
    assert f"clear task retried of run {run_id} of DAG xcom_again" in log
    airflow.clear("xcom_again", run_id, ["retried"], include_downstream=True)
    airflow.wait("xcom_again", run_id)


def test_what_cannot_be_stored_fails_with_its_path_and_leaves_no_row(airflow: AirflowHome, store: Store) -> None:
    run_id = airflow.trigger("xcom_refused")
    airflow.wait("xcom_refused", run_id, expect="failed")
    log = text_of(airflow.log("xcom_refused", run_id, "lock"))
    assert 'rows\\"][1]' in log or "rows'][1]" in log
    assert "task xcom_refused.lock" in log
    assert "hint: " in log
    assert airflow.xcom_keys("xcom_refused", run_id, "lock") == []
    assert owners(store, "xcom_refused", run_id) == []
