"""Rows that stand for values in Ray clusters, and who gets what for them: over a real store, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from airflow.sdk import DAG, task

from airfreight import process, references, rows
from airfreight.decorators import ray_task
from airfreight.errors import DeniedError, InvalidError
from airfreight.origin import Coordinates
from airfreight.ray.handle import HELD_BYTES_MIN, RayValue, StoredValue, of_record, within
from airfreight.xcom import AirfreightXCom

if TYPE_CHECKING:
    from airfreight.process import Process

WHERE = {"dag_id": "flights", "task_id": "train", "run_id": "manual__1", "map_index": -1}
PLACE = {"owner": "airfreight-owner-1", "generation": "0123456789abcdef", "key": "af-flights.train-1-1"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    """The state of this process, with a store of its own."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__AIRFREIGHT__STORE_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("AIRFLOW__AIRFREIGHT__SPILL_PATH", str(tmp_path / "spill"))
    monkeypatch.setattr(process, "_current", None)
    return process.here()


def left(*, parts: Any = None, preview: bool = True, key: str = "af-flights.train-1-1") -> Any:
    """What a task on Ray returns whose result has stayed there."""
    value = {**PLACE, "key": key, "nbytes": 3 << 20, "type": "pandas.DataFrame", "preview": {"shape": [2, 3]}}
    record = {
        "result": {"value": value if parts is None else {**value, "parts": parts}},
        "python": "3.12.1",
        "libraries": {"pandas": "3.0.1"},
    }
    return of_record(record, {"conn": "ray_default", "session": "session_1"}, WHERE, preview=preview)


def serialize(value: Any, key: str = "return_value", **where: Any) -> Any:
    row = AirfreightXCom.serialize_value(value, key=key, **{**WHERE, **where})
    # A database gives back equal JSON, not the same object.
    return json.loads(json.dumps(row))


def rendered(row: Any, *, mapped: bool = False, decorate: Any = ray_task, argument: Any = None) -> Any:
    """What a task gets for the value of another task, as Airflow renders it."""
    # Airflow's own code pulls and reads it.
    namespace = {"__name__": "airflow.sdk.execution_time.task_runner", "row": SimpleNamespace(value=row)}
    exec("def pull(**_): return read(row)", namespace | {"read": AirfreightXCom.deserialize_value}, namespace)
    pull = FunctionType(namespace["pull"].__code__, namespace | {"read": AirfreightXCom.deserialize_value})  # type: ignore[attr-defined]

    with DAG("flights", schedule=None) as dag:

        @task
        def make() -> list[Any]: ...

        @decorate
        def use(value: Any) -> Any: ...

        made = make()
        given = made if argument is None else argument(made)
        if mapped:
            use.expand(value=given)
        else:
            use(value=given)
    operator: Any = dag.get_task("use")
    instance = SimpleNamespace(
        xcom_pull=pull, map_index=1, dag_id="flights", run_id="r", task=operator, _upstream_map_indexes={}
    )
    context: Any = {"ti": instance, "dag": dag, "dag_run": SimpleNamespace(conf={}), "pull": pull}
    operator.render_template_fields(context)
    return (context["task"] if mapped else operator).op_kwargs["value"]


def test_a_value_in_ray_is_a_signed_row_of_version_2(here: Process) -> None:
    row = serialize(left())

    assert row["airfreight"] == references.VERSION_RAY
    assert (row["type"], row["size"], row["preview"]) == ("pandas.DataFrame", "3.0 MiB", {"shape": [2, 3]})
    assert row["ray"] == {
        **PLACE,
        "conn": "ray_default",
        "session": "session_1",
        "python": "3.12.1",
        "libraries": {"pandas": "3.0.1"},
    }
    assert {name: row["owner"][name] for name in WHERE} == WHERE
    references.verify(row, here.keys)


@pytest.mark.parametrize("member", ["key", "owner", "conn", "session", "generation"])
def test_a_changed_row_is_denied(here: Process, member: str) -> None:
    row = serialize(left())
    row["ray"][member] = "another"
    with pytest.raises(DeniedError):
        rendered(row)


def test_rows_of_a_later_version_are_refused(here: Process) -> None:
    row = {**serialize(left()), "airfreight": 3}
    del row["hmac"]
    with pytest.raises(InvalidError, match="has version 3; this Airfreight reads versions up to 2"):
        rendered(references.sign(row, here.keys))


def test_a_task_on_ray_gets_a_handle(here: Process) -> None:
    value = rendered(serialize(left()))

    assert isinstance(value, RayValue)
    assert value.place == PLACE
    assert value.session == "session_1"
    assert str(value) == "<pandas.DataFrame, 3.0 MiB, on Ray, connection ray_default>"


def test_parts_become_a_tree_of_handles_and_small_values(here: Process) -> None:
    part = {**PLACE, "key": f"{PLACE['key']}/frame", "nbytes": 1 << 20, "type": "pandas.DataFrame"}
    row = serialize(left(parts={"frame": part, "rows": {"json": 7}, "note": {"json": None}}))

    assert row["type"] == "dict"
    value = rendered(row)
    assert list(value) == ["frame", "rows", "note"]
    assert (value["rows"], value["note"]) == (7, None)
    assert isinstance(value["frame"], RayValue)
    assert value["frame"].place["key"].endswith("/frame")


def test_handles_stay_where_they_are_in_lists_tuples_and_dicts(here: Process) -> None:
    one, other = left(), left(key="af-flights.train-1-1/1")
    small = np.arange(3)
    value = rendered(serialize([(one, {"a": other, 1: [small, "text"]}), one, {"plain": [1, 2]}]))

    assert type(value) is list
    assert type(value[0]) is tuple
    assert value[0][0].place == value[1].place == PLACE
    assert value[0][1]["a"].place["key"] == "af-flights.train-1-1/1"
    np.testing.assert_array_equal(value[0][1][1][0], small)
    assert value[0][1][1][1] == "text"
    assert value[2] == {"plain": [1, 2]}


def test_a_mapped_task_on_ray_gets_the_handle_of_its_element(here: Process) -> None:
    parts = [{**PLACE, "key": f"{PLACE['key']}/{n}", "nbytes": 1, "type": "numpy.ndarray"} for n in range(3)]
    row = serialize(left(parts=parts))

    assert row["elements"] == 3
    assert rendered(row, mapped=True).place["key"] == f"{PLACE['key']}/1"


def test_a_large_value_of_the_store_is_held_and_a_small_one_is_read(here: Process) -> None:
    large, small = np.zeros(HELD_BYTES_MIN, np.uint8), np.zeros(HELD_BYTES_MIN // 2, np.uint8)

    held = rendered(serialize(large))
    assert isinstance(held, StoredValue)
    assert here.store.contains(held.name)
    np.testing.assert_array_equal(held.fetch(), large)
    np.testing.assert_array_equal(rendered(serialize(small)), small)
    # A plain task gets the value, whatever its size.
    np.testing.assert_array_equal(rendered(serialize(large), decorate=task), large)


def test_a_function_in_map_gets_the_value_itself(here: Process) -> None:
    large = np.ones(HELD_BYTES_MIN, np.uint8)

    got = rendered(serialize([large, large]), mapped=True, argument=lambda made: made.map(lambda each: int(each.sum())))
    assert got == HELD_BYTES_MIN


def test_a_template_gets_the_value_itself(here: Process) -> None:
    large = np.ones(HELD_BYTES_MIN, np.uint8)

    got = rendered(serialize(large), argument=lambda _: "{{ pull().sum() }}")
    assert got == str(HELD_BYTES_MIN)


def test_a_template_that_prints_a_large_value_does_not_fetch_it(here: Process) -> None:
    got = rendered(serialize(left()), argument=lambda _: "{{ pull() }}")
    assert got == "[pandas.DataFrame, 3.0 MiB, in a Ray cluster, too long to print. Use it in a Python task]"


def test_a_value_that_is_passed_on_stays_its_makers(here: Process) -> None:
    row = serialize(left())
    passed_on = serialize([rendered(row)], task_id="collect")

    (held,) = within(rendered(passed_on))
    assert held.row["owner"]["task_id"] == "train"
    assert held.row["created"] == row["created"]


def test_purging_deletes_only_what_is_the_tasks_own(here: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    from airfreight.ray import plane

    dropped: list[str] = []
    # Without a cluster, nothing can be freed; that it would be is what counts.
    monkeypatch.setattr(plane, "drop", lambda _, row: dropped.append(row["ray"]["key"]))
    one, other = left(), left(key="another")
    passed_on = serialize([rendered(serialize(one))], task_id="collect")
    rows.purge(passed_on, Coordinates("flights", "manual__1", "collect", -1, "return_value"))
    assert dropped == []
    rows.purge(serialize({"a": one, "b": other}), Coordinates("flights", "manual__1", "train", -1, "return_value"))
    assert dropped == [one.place["key"], "another"]


def test_a_handle_is_not_packed_unseen(here: Process) -> None:
    with pytest.raises(InvalidError, match="can't be packed inside of another object"):
        serialize({"of": SimpleNamespace(value=left())})
