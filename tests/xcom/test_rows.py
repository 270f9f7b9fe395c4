"""Rows and the objects that they refer to, over a real store; what Airflow itself does is in test_airflow.py."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from airfreight import rows
from airfreight._store import key_fingerprint, sign_reference
from airfreight.errors import DeniedError, InvalidError, ObjectLostError
from airfreight.origin import Coordinates
from airfreight.xcom import AirfreightXCom

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.process import Process

WHERE = {"dag_id": "flights", "task_id": "extract", "run_id": "scheduled__2024-02-29T00:00:00+00:00", "map_index": -1}

touched: list[str] = []


class Trap:
    """Its pickle leaves a mark when it is loaded."""

    def __reduce__(self) -> Any:
        return mark, ("loaded",)


def mark(what: str) -> None:
    touched.append(what)


def serialize(value: Any, key: str = "return_value", **where: Any) -> Any:
    return AirfreightXCom.serialize_value(value, key=key, **{**WHERE, **where})


def deserialize(row: Any) -> Any:
    # A database gives back equal JSON, not the same object.
    return AirfreightXCom.deserialize_value(SimpleNamespace(value=json.loads(json.dumps(row))))


def resign(row: dict[str, Any], process: Process, **changes: Any) -> Any:
    return json.loads(sign_reference(json.dumps({**row, **changes}), process.keys))


def running(task_id: str = "extract", **task: Any) -> Any:
    """As much of a running task instance as the backend looks at."""
    task = {"multiple_outputs": False, "iter_mapped_dependants": lambda: iter(()), **task}
    return SimpleNamespace(
        id="ti",
        dag_id="flights",
        run_id=WHERE["run_id"],
        task_id=task_id,
        map_index=-1,
        try_number=2,
        task=SimpleNamespace(**task),
    )


@pytest.mark.parametrize("value", [None, 5, "text", [1, {"a": None}], {"b": 1.5}])
def test_small_json_stays_as_it_is(here: Process, value: Any) -> None:
    assert serialize(value) == value
    assert deserialize(value) == value
    assert not here.uses_store


@pytest.mark.parametrize("value", [(1, 2), {1, 2}, b"\0", 1e300, {1: 2}, np.float32(0.5), {"airfreight": 1}])
def test_other_small_values_are_embedded(here: Process, value: Any) -> None:
    row = serialize(value)
    assert set(row) == {"airfreight", "type", "preview", "inline", "hmac"}
    back = deserialize(row)
    assert type(back) is type(value)
    assert back == value
    assert not here.uses_store


def test_a_large_value_becomes_a_reference(here: Process) -> None:
    array = np.arange(100_000)
    row = serialize(array)
    assert row["type"] == "numpy.ndarray"
    assert row["size"] == "781.3 KiB"
    assert row["preview"]["shape"] == [100_000]
    assert row["owner"] == {**WHERE, "key": "return_value", "deployment": here.deployment}
    assert row["store"] == here.store.store_id
    assert str(here.store.path) not in json.dumps(row)
    assert (deserialize(row) == array).all()
    assert here.store.describe(row["id"])["metadata"]["owner"] == row["owner"]


def test_a_value_read_twice_is_two_values(here: Process) -> None:
    row = serialize(np.zeros(100_000))
    deserialize(row)[:] = 1
    assert deserialize(row).sum() == 0


def test_mapping_readonly(configure: Callable[..., Process]) -> None:
    configure(mapping="readonly")
    with pytest.raises(ValueError, match="read-only"):
        deserialize(serialize(np.zeros(100_000)))[0] = 1


@pytest.mark.parametrize("key", ["skipmixin_key", "_link_Logs"])
def test_what_airflow_reads_itself_stays_in_the_row(here: Process, key: str) -> None:
    value = {"skipped": [f"task_{number}" for number in range(1_000)]}
    assert serialize(value, key=key) == value
    assert not here.uses_store


def test_without_preview(configure: Callable[..., Process]) -> None:
    configure(preview=False)
    assert "preview" not in serialize((1, 2))
    assert "preview" not in serialize(np.zeros(100_000))


def test_without_inline_everything_but_none_is_stored(configure: Callable[..., Process]) -> None:
    configure(inline_bytes_max=0)
    assert serialize(None) is None
    row = serialize(5)
    assert "id" in row
    assert deserialize(row) == 5


def test_without_pickle(configure: Callable[..., Process]) -> None:
    embedded, stored = serialize((1, 2)), serialize({1: np.zeros(100_000)})
    configure(allow_pickle=False)
    array = serialize(np.ones(100_000))
    assert deserialize(array).sum() == 100_000
    for row in (embedded, stored):
        with pytest.raises(DeniedError, match="allow_pickle"):
            deserialize(row)


@pytest.mark.parametrize(
    "forge",
    [
        lambda row, _: {**row, "hmac": None},
        lambda row, _: {name: row[name] for name in row if name != "hmac"},
        lambda row, _: {**row, "id": "0" * 32},
        lambda row, _: {**row, "owner": {}},
        lambda row, _: {**row, "airfreight": 2},
        lambda row, _: {**row, "more": 1},
        lambda row, inline: {"airfreight": 1, "inline": inline, "hmac": row["hmac"]},
        lambda _, inline: {"airfreight": 1, "inline": inline},
        lambda _, inline: json.loads(
            sign_reference(json.dumps({"airfreight": 1, "inline": inline}), [b"another key, not ours"])
        ),
    ],
)
def test_a_forged_row_is_refused_untouched(here: Process, forge: Callable[..., Any]) -> None:
    touched.clear()
    inline = base64.b64encode(pickle.dumps(Trap())).decode()
    row = forge(serialize(np.zeros(100_000)), inline)
    with pytest.raises(DeniedError) as caught:
        deserialize(row)
    assert key_fingerprint(here.keys[0]) in caught.value.message
    assert touched == []
    deserialize(resign({"airfreight": 1, "inline": inline}, here))
    assert touched == ["loaded"], "the trap works"


def test_a_foreign_key_is_named_beside_ours(here: Process) -> None:
    row = json.loads(sign_reference('{"airfreight": 1, "inline": ""}', [b"another key, not ours"]))
    with pytest.raises(DeniedError) as caught:
        deserialize(row)
    assert key_fingerprint(b"another key, not ours") in caught.value.message


def test_keys_rotate(configure: Callable[..., Process]) -> None:
    old, new = "the old key of this host", "the new key of this host"
    configure(secret_key=old)
    before = serialize((1, 2))
    configure(secret_key=f"{new},{old}")
    assert deserialize(before) == (1, 2)
    after = serialize((1, 2))
    configure(secret_key=new)
    assert deserialize(after) == (1, 2)
    with pytest.raises(DeniedError):
        deserialize(before)


def test_a_newer_row_is_refused(here: Process) -> None:
    row = resign(serialize((1, 2)), here, airfreight=7)
    with pytest.raises(InvalidError, match="version 7"):
        deserialize(row)


def lost(row: Any) -> ObjectLostError:
    with pytest.raises(ObjectLostError) as caught:
        deserialize(row)
    assert "task flights.extract" in caught.value.message
    assert "numpy.ndarray, 781.3 KiB" in caught.value.message
    clear = (
        "airflow tasks clear -d -t '^extract$' -s '2024-02-29T00:00:00+00:00' -e '2024-02-29T00:00:00+00:00' flights"
    )
    assert clear in (caught.value.hint or "")
    return caught.value


def test_lost_says_why(here: Process) -> None:
    row = serialize(np.arange(100_000))
    here.store.delete(row["id"])
    assert "was deleted" in lost(row).message
    expired = lost(resign(row, here, created="2020-01-01T00:00:00+00:00"))
    assert "has expired" in expired.message
    assert "ttl_hours" in (expired.hint or "")
    other = {"store": "f" * 32}
    assert "on host elsewhere" not in lost(resign(row, here, **other)).message
    assert "another store on this host" in lost(resign(row, here, **other)).message
    assert "before it was started again" in lost(resign(row, here, **other, boot="another")).message
    assert "host elsewhere" in lost(resign(row, here, **other, host="elsewhere")).message


def test_lost_when_the_store_was_removed(configure: Callable[..., Process]) -> None:
    row = serialize(np.arange(100_000))
    shutil.rmtree(Path(configure().store.path))
    configure()
    assert "another store on this host" in lost(row).message


def test_the_hint_for_a_run_without_a_date_is_the_ui(here: Process) -> None:
    row = serialize(np.arange(100_000), run_id="by hand")
    here.store.delete(row["id"])
    with pytest.raises(ObjectLostError) as caught:
        deserialize(row)
    assert "run by hand of DAG flights" in (caught.value.hint or "")


def test_purge_deletes_what_is_here_and_nothing_else(here: Process) -> None:
    first, second = serialize(np.zeros(50_000)), serialize(np.ones(50_000))
    AirfreightXCom.purge(SimpleNamespace(value=first))
    AirfreightXCom.purge(SimpleNamespace(value=first))
    assert here.store.names() == [second["id"]]
    for value in ({**second, "nbytes": 1}, resign(second, here, store="f" * 32), "a link", None, {"airfreight": 1}):
        AirfreightXCom.purge(SimpleNamespace(value=value))
    assert here.store.names() == [second["id"]]


def test_purge_of_a_copied_reference_deletes_nothing(here: Process) -> None:
    row = serialize(np.zeros(50_000))
    rows.purge(row, Coordinates("another", WHERE["run_id"], "task", -1, "return_value"))
    assert here.store.names() == [row["id"]]
    rows.purge(row, Coordinates("flights", WHERE["run_id"], "extract", -1, "return_value"))
    assert here.store.names() == []


def test_kubernetes_pods_keep_only_what_fits_the_row(
    configure: Callable[..., Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
    configure(secret_key="the same in every pod of the cluster")
    assert deserialize(serialize({1, 2})) == {1, 2}
    with pytest.raises(InvalidError, match="KubernetesExecutor") as caught:
        serialize(np.zeros(50_000))
    for way_out in ("shared_store = True", "hostPath", "agent", "bucket"):
        assert way_out in (caught.value.hint or "")
    configure(shared_store=True)
    assert deserialize(serialize(np.ones(50_000))).sum() == 50_000


def test_a_pod_makes_no_key_that_no_other_has(
    configure: Callable[..., Process], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_IS_K8S_EXECUTOR_POD", "True")
    with pytest.raises(InvalidError, match="a secret key of its own") as caught:
        serialize({1, 2})
    assert "secret_key" in (caught.value.hint or "")
    assert not list(tmp_path.glob("*.key"))
    assert serialize([1, 2]) == [1, 2]


def test_what_cannot_be_stored_names_the_task(here: Process) -> None:
    with pytest.raises(InvalidError) as caught:
        serialize({"rows": [1, open]}, key="part") and serialize({"rows": [1, (line for line in "abc")]}, key="part")
    assert "rows" in caught.value.message
    assert "task flights.extract" in str(caught.value)
    assert "XCom 'part'" in str(caught.value)


def test_rewriting_expires_what_was_before(here: Process) -> None:
    here.begin(running())
    first = serialize(np.zeros(50_000), key="part")
    kept = serialize(np.zeros(50_000), key="other part")
    assert serialize(5, key="part") == 5
    assert here.store.contains(first["id"])
    expired = {name for name in here.store.names() if not here.store.expire(name, -1.0) or name == first["id"]}
    assert first["id"] in expired
    assert deserialize(kept).sum() == 0


def multiple(value: dict[str, Any], here: Process, **task: Any) -> tuple[dict[str, Any], Any]:
    """What Airflow does with the result of a task with ``multiple_outputs``."""
    here.begin(running(multiple_outputs=True, **task))
    return {key: serialize(item, key=key) for key, item in value.items()}, serialize(value)


def test_multiple_outputs_write_nothing_twice(here: Process) -> None:
    value = {"z": np.arange(50_000), "a": np.ones(50_000), "count": 5, "odd": (1, 2)}
    parts, whole = multiple(value, here)
    assert set(whole["parts"]) == {"z", "a"}
    assert len(here.store.names()) == 4
    assert here.store.stat()["used_bytes"] < 2 * 50_000 * 8 * 1.2
    back = deserialize(whole)
    assert list(back) == ["z", "a", "count", "odd"]
    assert (back["z"] == value["z"]).all()
    assert (back["count"], back["odd"]) == (5, (1, 2))
    AirfreightXCom.purge(SimpleNamespace(value=parts["z"]))
    assert (deserialize(whole)["z"] == value["z"]).all()
    AirfreightXCom.purge(SimpleNamespace(value=whole))
    assert here.store.names() == [parts["a"]["id"]]
    assert (deserialize(parts["a"]) == value["a"]).all()


def test_multiple_outputs_that_share_stay_shared(here: Process) -> None:
    shared = [np.zeros(50_000)]
    _, whole = multiple({"a": {"in": shared}, "b": shared}, here)
    assert "parts" not in whole
    back = deserialize(whole)
    assert back["a"]["in"] is back["b"]


def test_only_what_was_just_pushed_is_taken_for_the_whole(here: Process) -> None:
    here.begin(running(multiple_outputs=True))
    array = np.zeros(50_000)
    serialize(array, key="a")
    array += 1
    assert deserialize(serialize({"a": array, "b": 1}))["a"].sum() == 50_000
    here.begin(running(multiple_outputs=False))
    array = np.zeros(50_000)
    serialize(array, key="a")
    array += 1
    assert deserialize(serialize({"a": array}))["a"].sum() == 50_000


def test_a_list_that_a_task_expands_over_is_read_whole_elsewhere(here: Process) -> None:
    here.begin(running(iter_mapped_dependants=lambda: iter([object()])))
    values = [np.full(2_000, number) for number in range(4)]
    row = serialize(values)
    assert row["elements"] == 4
    back = deserialize(row)
    assert type(back) is list
    assert [int(array[0]) for array in back] == [0, 1, 2, 3]


def test_airflow_3_4_hooks(here: Process) -> None:
    coordinate = SimpleNamespace(
        dag_id="flights", run_id="r", task_id="extract", ti_id="1234", region_id=None, region_index=None
    )
    row = AirfreightXCom.store_value(coordinate, "return_value", np.zeros(50_000))
    assert row["owner"] == {
        "dag_id": "flights", "run_id": "r", "task_id": "extract", "map_index": -1, "key": "return_value",
        "ti_id": "1234", "deployment": here.deployment,
    }  # fmt: skip
    assert AirfreightXCom.load_value(row).sum() == 0
    assert AirfreightXCom.load_value({"from": "REST"}) == {"from": "REST"}
    foreign = SimpleNamespace(**{**vars(coordinate), "ti_id": None})
    assert "map_index" not in AirfreightXCom.store_value(foreign, "k", np.zeros(50_000))["owner"]


def test_rows_of_other_writers_are_airflows(here: Process) -> None:
    from airflow.sdk.bases.xcom import BaseXCom

    for value in ("a link", '{"a": 1}', {"a": [1, 2]}, 5, [None]):
        assert deserialize(value) == value
    serde = BaseXCom.serialize_value((1, {2}))
    assert deserialize(serde) == (1, {2})


def test_a_task_process_without_large_values_opens_nothing(here: Process) -> None:
    deserialize(serialize({"small": [1, 2]}))
    deserialize(serialize((1, 2)))
    here.sweep()
    assert not here.uses_store
