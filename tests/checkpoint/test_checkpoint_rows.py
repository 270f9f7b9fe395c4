"""Rows whose objects have copies: lost stores, damaged buckets, deletion, reuse. A real bucket, no Airflow."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from airfreight import rows
from airfreight.checkpoint import copies, parse
from airfreight.checkpoint.reuse import skip_work
from airfreight.errors import AirfreightError, CorruptError, DeniedError, InvalidError, ObjectLostError
from airfreight.origin import Coordinates, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.process import Process
    from bucket_home import FaultProxy, S3Server

LARGE = np.arange(3_000_000)


def running(checkpoint: Any = None, *, reuse: bool = False, **task: Any) -> Any:
    """As much of a running task instance as the backend looks at."""
    members = {"multiple_outputs": False, "iter_mapped_dependants": lambda: iter(()), "task_id": "train", **task}
    members["airfreight_checkpoint"] = parse(checkpoint, reuse)
    return SimpleNamespace(
        dag_id="models", run_id="run/1", task_id="train", map_index=-1, try_number=1, task=SimpleNamespace(**members)
    )


def origin(instance: Any, key: str = "return_value") -> Origin:
    return Origin(Coordinates("models", "run/1", "train", -1, key), instance)


def write(value: Any, instance: Any, key: str = "return_value") -> Any:
    # A database gives back equal JSON, not the same object.
    return json.loads(json.dumps(rows.write(value, origin(instance, key))))


def lose_store(process: Process) -> None:
    for name in process.store.names():
        process.store.delete(name)


@pytest.fixture(params=["file", "s3"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/bucket"
    request.getfixturevalue("aws")
    url: str = request.getfixturevalue("bucket_url")
    return f"{url}/some/prefix"


def test_a_value_that_is_gone_is_read_from_its_checkpoint(
    configure: Callable[..., Process], where: str, said: list[str]
) -> None:
    process = configure()
    row = write(LARGE, running(where))
    assert row["bucket"].keys() == {"url", "conn", "key", "nbytes", "crc64"}
    assert row["bucket"]["key"].split("/")[1:-1] == ["models", "run%2F1", "train", "return_value"]

    lose_store(process)
    assert np.array_equal(rows.read(row), LARGE)
    assert f"is not on this host; reading its checkpoint {where}/" in "\n".join(said)
    assert process.store.names() == [row["id"]], "the next task of this host finds it"


def test_another_host_reads_it(configure: Callable[..., Process], memory: Path, where: str) -> None:
    configure()
    row = write(LARGE, running(where))
    process = configure(store_path=memory / "other")
    assert row["store"] != process.store.store_id
    assert np.array_equal(rows.read(row), LARGE)
    assert process.store.contains(row["id"])


def test_every_member_of_a_dict_has_a_copy(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    instance = running(where, multiple_outputs=True)
    process.begin(instance)
    value = {"a": LARGE, "b": LARGE * 2, "small": 3}
    members = {key: write(item, instance, key) for key, item in value.items()}
    assert members["small"] == 3
    whole = rows.write(value, origin(instance))
    assert whole["parts"]["a"]["bucket"] == members["a"]["bucket"], "uploaded once"
    lose_store(process)
    read = rows.read(json.loads(json.dumps(whole)))
    assert read.keys() == value.keys()
    assert all(np.array_equal(read[key], value[key]) for key in value)


def test_a_full_store_drops_what_has_a_checkpoint(configure: Callable[..., Process], where: str) -> None:
    process = configure(capacity_bytes="40 MiB", spill_capacity_bytes="0")
    row = write(LARGE, running(where))
    # There is room for one of the two, and no disk to move the other to.
    other = write(LARGE + 1, running())
    assert process.store.names() == [other["id"]]
    process.store.delete(other["id"])
    assert np.array_equal(rows.read(row), LARGE)
    # What came from there can go again.
    other = write(LARGE + 1, running())
    assert process.store.names() == [other["id"]]


def test_every_name_of_a_copied_object_is_noted(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    instance = running(where, multiple_outputs=True)
    process.begin(instance)
    members = {"a": LARGE, "b": LARGE * 2}
    written = [write(value, instance, key) for key, value in members.items()]
    whole = rows.write(members, origin(instance))
    noted = {path.name for path in (Path(process.store.path) / "copied").iterdir()}
    assert {row["id"] for row in written} | {part["id"] for part in whole["parts"].values()} <= noted


def test_elements_of_a_list_come_from_the_checkpoint(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    instance = running(where, iter_mapped_dependants=lambda: iter([object()]))
    row = write([LARGE, LARGE + 1], instance)
    assert row["elements"] == 2
    lose_store(process)
    assert np.array_equal(rows._get_element(process, row, 1), LARGE + 1)


def test_damaged_bytes_are_never_a_value(
    configure: Callable[..., Process], s3: S3Server, aws: Any, bucket_url: str, monkeypatch: Any, proxy: FaultProxy
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    process = configure()
    row = write(LARGE, running(bucket_url))
    lose_store(process)
    proxy.on("damage", "GET")
    with pytest.raises(CorruptError, match=r"the value of task models\.train.* is damaged") as raised:
        rows.read(row)
    assert "clear task train" in raised.value.hint
    assert process.store.names() == []


def test_a_checkpoint_that_is_gone_too_says_so(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    row = write(LARGE, running(where))
    copies.open_place(process, where).bucket.delete(row["bucket"]["key"])
    lose_store(process)
    with pytest.raises(ObjectLostError, match="is not on this host, and its checkpoint is gone") as raised:
        rows.read(row)
    assert "clear task train" in raised.value.hint


def test_a_bucket_that_refuses_fails_the_task_and_leaves_nothing(
    configure: Callable[..., Process], aws: Any, bucket_url: str, monkeypatch: Any, proxy: FaultProxy
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.on("refuse", "PUT")
    process = configure()
    with pytest.raises(DeniedError, match=f"refused to write `{bucket_url}/.*AccessDenied.*task models.train"):
        write(LARGE, running(bucket_url))
    assert process.store.names() == []


def test_a_row_cannot_be_pointed_at_another_bucket(configure: Callable[..., Process], where: str) -> None:
    configure()
    row = write(LARGE, running(where))
    row["bucket"]["url"] = "s3://somebody-elses"
    with pytest.raises(DeniedError):
        rows.read(row)


def test_clearing_a_task_deletes_its_checkpoint(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    row = write(LARGE, running(where))
    bucket = copies.open_place(process, where).bucket
    assert {entry["key"].rpartition("/")[2] for entry in bucket.list()} == {row["id"], "newest"}
    rows.purge(row, Coordinates("models", "run/1", "another", -1, "return_value"))
    assert len(bucket.list()) == 2, "a row that was copied from another task deletes nothing"
    rows.purge(row, Coordinates("models", "run/1", "train", -1, "return_value"))
    assert bucket.list() == []
    assert process.store.names() == []


def test_reuse_takes_the_newest_value_and_moves_nothing(
    configure: Callable[..., Process], where: str, said: list[str]
) -> None:
    process = configure()
    first = running(where, reuse=True)
    old = write(LARGE, first)
    row = write(LARGE + 1, first)
    bucket = copies.open_place(process, where).bucket
    assert {entry["key"].rpartition("/")[2] for entry in bucket.list()} == {row["id"], "newest"}, "the old one is gone"
    assert old["id"] != row["id"]

    rows.purge(row, Coordinates("models", "run/1", "train", -1, "return_value"))
    assert len(bucket.list()) == 2, "the task that runs again may take it"
    lose_store(process)

    again = running(where, reuse=True)
    again.task.execute = lambda context: pytest.fail("the work was not skipped")
    skip_work(again)
    assert "task train does not run: its value is taken from the checkpoint" in "\n".join(said)
    reused = write(again.task.execute({}), again)
    assert reused == row
    assert process.store.names() == []
    assert np.array_equal(rows.read(reused), LARGE + 1)


@pytest.mark.parametrize("value", [5, {"score": 0.5}, (1, 2)])
def test_small_values_are_reused_as_well(configure: Callable[..., Process], where: str, value: Any) -> None:
    configure()
    write(value, running(where, reuse=True))
    again = running(where, reuse=True)
    skip_work(again)
    stored = write(again.task.execute({}), again)
    assert (rows.read(stored) if isinstance(value, tuple) else stored) == value


def test_a_dict_of_several_outputs_is_reused_as_a_dict(configure: Callable[..., Process], where: str) -> None:
    process = configure()
    instance = running(where, reuse=True, multiple_outputs=True)
    process.begin(instance)
    value = {"a": LARGE, "small": 3}
    for key, item in value.items():
        write(item, instance, key)
    write(value, instance)
    lose_store(process)
    again = running(where, reuse=True, multiple_outputs=True)
    skip_work(again)
    taken = again.task.execute({})
    assert taken["small"] == 3
    assert np.array_equal(taken["a"], LARGE)


def test_what_cannot_be_reused_is_made_again(
    configure: Callable[..., Process], tmp_path: Path, said: list[str]
) -> None:
    process = configure()
    where = f"file://{tmp_path}/bucket"

    def runs() -> bool:
        again = running(where, reuse=True)
        skip_work(again)
        return not hasattr(again.task, "execute")

    assert runs(), "there is none yet"
    row = write(LARGE, running(where, reuse=True))
    assert not runs()
    bucket = copies.open_place(process, where).bucket
    pointer = f"{row['bucket']['key'].rpartition('/')[0]}/newest"
    document = bucket.get(pointer)
    for bad, message in (
        (b"not json", "is not signed by this deployment"),
        (document.replace(b"run%2F1", b"run%2F2"), "is not signed by this deployment"),
    ):
        bucket.put(pointer, bad)
        assert runs()
        assert message in "\n".join(said)
    bucket.put(pointer, document)
    assert not runs()
    bucket.put(pointer.replace("/train/", "/other/"), document)
    other = running(where, reuse=True)
    other.task_id = "other"
    skip_work(other)
    assert not hasattr(other.task, "execute")
    assert "which is of another task" in "\n".join(said)
    bucket.delete(row["bucket"]["key"])
    assert runs()
    assert "it is gone or cut" in "\n".join(said)


def test_who_has_checkpoints(configure: Callable[..., Process], tmp_path: Path) -> None:
    from airfreight.checkpoint import plan_of
    from airfreight.decorators import checkpoint

    url = f"file://{tmp_path}/bucket"
    process = configure()

    def plan(task: Any) -> Any:
        found = plan_of(task, process.settings)
        return None if found is None else (found.where, found.reuse)

    def task(**members: Any) -> Any:
        return SimpleNamespace(task_id="t", **members)

    assert plan(task()) is None
    with pytest.raises(InvalidError, match="task t asks for checkpoints, and nothing says where"):
        plan(task(airfreight_checkpoint=parse(True)))
    assert plan(task(airfreight_checkpoint=parse(True)._replace(required=False))) is None
    config = {"airfreight": {"checkpoint": "my_aws", "reuse_checkpoint": True}}
    assert plan(task(executor_config=config)) == ("my_aws", True)
    marked = checkpoint("s3://b", reuse_checkpoint=True)(lambda: None)
    assert plan(task(python_callable=marked, executor_config=config)) == ("s3://b", True)
    assert plan(task(python_callable=marked, airfreight_checkpoint=parse(False))) is None

    process = configure(checkpoint=url)
    assert plan(task()) is None
    assert plan(task(python_callable=checkpoint(lambda: None))) == (url, False)
    process = configure(checkpoint_all=True)
    assert plan(task()) == (url, False)
    assert plan(None) == (url, False)
    assert plan(task(airfreight_checkpoint=parse(False))) is None
    for bad in ({"airfreight": {"bucket": "x"}}, {"airfreight": 5}, {"airfreight": {"checkpoint": 5}}):
        with pytest.raises(AirfreightError):
            plan(task(executor_config=bad))
