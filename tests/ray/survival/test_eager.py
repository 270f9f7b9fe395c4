"""
Goal: what a value refers to in Ray lives as long as the value, if its task is eager, and is refused if it isn't.
Method: actors, references and Ray Data's datasets as values between calls of a real runner on a real Ray.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from survival_home import actors, until

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from runner_client import Input, Run, RunnerHome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray_home import RayHome

#: Ray Data starts processes of its own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def runner(frail_ray: RayHome) -> Iterator[RunnerHome]:
    home = RunnerHome(frail_ray)
    home.start()
    yield home
    home.close()


@pytest.fixture
def run(runner: RunnerHome) -> Iterator[Run]:
    run = Run(runner)
    yield run
    run.end()


def nested() -> dict[str, Any]:
    """An actor that has an actor, and references to what it and a remote function have made."""
    import numpy as np
    import ray

    @ray.remote(num_cpus=0)
    class Inner:
        def __init__(self) -> None:
            self.rows = np.arange(100_000)

        def rows_from(self, first: int) -> Any:
            return self.rows[first:]

    @ray.remote(num_cpus=0)
    class Outer:
        def __init__(self) -> None:
            self.inner = Inner.remote()

        def total(self, first: int) -> int:
            return int(ray.get(self.inner.rows_from.remote(first)).sum())

    @ray.remote(num_cpus=0)
    def halves(number: int) -> Any:
        return np.arange(number) / 2

    return {"outer": Outer.remote(), "halves": [halves.remote(10), ray.put(np.ones(200_000))]}


def used(value: dict[str, Any]) -> list[float]:
    import ray

    return [ray.get(value["outer"].total.remote(99_998)), *(float(half.sum()) for half in ray.get(value["halves"]))]


def dataset(rows: int) -> Any:
    import ray

    return ray.data.range(rows, override_num_blocks=4).map(lambda row: {"square": row["id"] ** 2}).materialize()


def summed(data: Any) -> list[int]:
    return [data.count(), data.num_blocks(), int(data.sum("square"))]


def test_actors_and_references_live_as_long_as_the_value(run: Run, frail_ray: RayHome) -> None:
    value = run.result(nested, eager=True)
    assert value.value["form"] == "native"
    for _ in range(2):
        assert run.result(used, value) == [199_997, 22.5, 200_000.0]
    run.end()
    names = {"Inner", "Outer", "Eager"}
    until(
        lambda: not [each for each in actors(frail_ray) if each["class_name"] in names and each["state"] != "DEAD"],
        "the value's actors to end with its run",
    )


def test_ray_data_passes_from_call_to_call(run: Run) -> None:
    squares = run.result(dataset, 1000, eager=True, options={"num_cpus": 0})
    assert squares.value["type"].startswith("ray.data")
    assert run.result(summed, squares, options={"num_cpus": 0}) == [1000, 4, sum(number**2 for number in range(1000))]


def halves(rows: int) -> dict[str, Any]:
    import ray

    all_rows = ray.data.range(rows, override_num_blocks=4)
    low = all_rows.filter(lambda row: row["id"] < rows // 2).materialize()
    high = all_rows.filter(lambda row: row["id"] >= rows // 2).materialize()
    return {"low": low, "high": high, "rows": list(range(10 * rows)), "count": rows}


def test_each_part_of_a_value_may_refer_to_more(run: Run, frail_ray: RayHome) -> None:
    value = run.result(halves, 1000, eager=True, parts="dict", options={"num_cpus": 0})
    parts = value.value["parts"]
    assert {name: part.get("form") for name, part in parts.items()} == {
        "low": "native", "high": "native", "rows": "packed", "count": None,
    }  # fmt: skip
    for name, expected in (("low", 499 * 250), ("high", 1499 * 250)):
        assert run.result(lambda data: int(data.sum("id")), Input(parts[name]), options={"num_cpus": 0}) == expected
    run.end()
    until(
        lambda: not [each for each in actors(frail_ray) if each["class_name"] == "Eager" and each["state"] != "DEAD"],
        "the actor to end with its run",
    )


def test_parts_of_plain_data_need_no_actor(run: Run, frail_ray: RayHome) -> None:
    value = run.result(lambda: {"one": list(range(10_000)), "two": "x" * 50_000}, eager=True, parts="dict")
    assert {part["form"] for part in value.value["parts"].values()} == {"packed"}
    until(
        lambda: not [each for each in actors(frail_ray) if each["class_name"] == "Eager" and each["state"] == "ALIVE"],
        "the actor to end",
    )
    assert run.result(lambda both: sum(both["one"]) + len(both["two"]), value) == sum(range(10_000)) + 50_000


def test_a_value_of_plain_data_needs_no_actor(run: Run, frail_ray: RayHome) -> None:
    value = run.result(lambda: list(range(10_000)), eager=True)
    assert isinstance(value, Input)
    assert value.value["form"] == "packed"
    until(
        lambda: not [each for each in actors(frail_ray) if each["class_name"] == "Eager" and each["state"] == "ALIVE"],
        "the actor to end",
    )
    assert run.result(lambda numbers: sum(numbers), value) == sum(range(10_000))


@pytest.mark.parametrize(
    ("function", "kind"), [(nested, "ray."), (lambda: [__import__("ray").put(1)], "ObjectRef")], ids=["actor", "list"]
)
def test_without_eager_references_are_refused(run: Run, function: Any, kind: str) -> None:
    state = run.call(function)
    assert state["status"] == "FAILED"
    assert kind in state["message"]
    assert "eager=True" in state["record"]["refused"]["hint"]


def test_a_single_reference_stands_for_its_value(run: Run) -> None:
    """As a coroutine does."""
    assert run.result(lambda: __import__("ray").put({"answer": 42})) == {"answer": 42}
