"""
Goal: a Ray job of its own takes values of the cluster in place, and what it returns outlives it.
Method: jobs as `@task.ray` submits them, on a real Ray with a real runner; their logs tell what the task would be told.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))

from runner_client import Input, Run, RunnerHome

from airfreight.ray import skew
from airfreight.ray.function import Function
from airfreight.ray.handle import RayValue
from airfreight.ray.parcel import Parcel, driver_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_home import RayHome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MARK = "\x1eairfreight "
PLACE = ("owner", "generation", "key")


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


class Job:
    """
    A function as a Ray job.

    :param run: whose its value is to be.
    """

    def __init__(self, run: Run, callable_: Callable[..., Any], *args: Any, parts: str = "none", **plane: Any) -> None:
        home = run.home
        values = [
            RayValue({"ray": {name: arg.value[name] for name in PLACE}}) for arg in args if isinstance(arg, Input)
        ]
        left = iter(values)
        function = Function(callable_, [])
        if values:
            function.values.number = lambda handle: values.index(handle)  # type: ignore[arg-type]
        arguments = function.argument(tuple(next(left) if isinstance(arg, Input) else arg for arg in args), {})
        self.id = f"af-cold-{secrets.token_hex(6)}"
        parcel = Parcel(
            function,
            arguments,
            environment={},
            libraries=skew.versions(function.libraries()),
            inputs=[each.place for each in values],
            plane={"runner": home.id, "owner": run.name, "info": run.info, "key": self.id, "parts": parts, **plane},
        )
        uris = []
        for package in [driver_package(), *parcel.packages()]:
            name = f"_ray_pkg_{hashlib.sha1(package).hexdigest()}.zip"
            home.put_package(name, package)
            uris.append(f"gcs://{name}")
        home.ray.request(
            "POST",
            "/api/jobs/",
            {
                "entrypoint": f"exec python {parcel.entrypoint}",
                "submission_id": self.id,
                "runtime_env": {"py_modules": uris},
                "metadata": {"airfreight_nonce": "nonce"},
            },
        )
        self.status = home.ray.wait_for_job(self.id)["status"]
        lines = home.ray.log(self.id).split("\n")
        self.printed = [line for line in lines if not line.startswith(MARK)]
        (told,) = [line for line in lines if line.startswith(f"{MARK}nonce ")]
        self.record: dict[str, Any] = json.loads(told.split(" ", 2)[2])

    @property
    def result(self) -> Any:
        found = self.record["result"]
        return Input(found["value"]) if "value" in found else found


def array(count: int) -> Any:
    import numpy as np

    return np.arange(count, dtype=float)


def described(value: Any) -> dict[str, Any]:
    return {"sum": float(value.sum()), "owndata": value.flags.owndata, "writeable": value.flags.writeable}


def test_a_job_s_value_outlives_it_and_is_mapped_by_others(run: Run) -> None:
    made = Job(run, array, 1_000_000).result
    assert {name: made.value[name] for name in ("owner", "type", "form", "nbytes")} == {
        "owner": run.name,
        "type": "numpy.ndarray",
        "form": "packed",
        "nbytes": made.value["nbytes"],
    }
    assert made.value["nbytes"] > 8_000_000
    expected = {"sum": 499999500000.0, "owndata": False, "writeable": False}
    assert run.result(described, made) == expected
    assert Job(run, described, made).result == {"json": expected}


def test_a_job_takes_what_a_call_has_made(run: Run) -> None:
    made = run.result(array, 500_000)
    assert Job(run, described, made).result["json"]["sum"] == 124999750000.0


def test_the_parts_of_a_job_s_value_are_values(run: Run) -> None:
    def both() -> dict[str, Any]:
        import numpy as np

        return {"a/b": np.ones(100_000), "small": 3}

    def used(whole: dict[str, Any], part: Any) -> list[float]:
        return [float(whole["a/b"].sum()), whole["small"], float(part.sum())]

    whole = Job(run, both, parts="dict").result
    parts = whole.value["parts"]
    assert parts["small"] == {"json": 3}
    assert parts["a/b"]["key"] == f"{whole.value['key']}/a%2Fb"
    assert run.result(used, whole, Input(parts["a/b"])) == [100_000.0, 3, 100_000.0]


def test_small_values_come_back_with_the_job(run: Run) -> None:
    assert Job(run, described, run.result(array, 100_000)).result["json"]["sum"] == 4999950000.0
    assert "inline" in Job(run, array, 10).result


def test_a_function_may_join_ray_by_itself(run: Run) -> None:
    def joins(value: Any) -> float:
        import ray

        ray.init()

        @ray.remote
        def half(number: float) -> float:
            return number / 2

        found: float = ray.get(half.remote(float(value.sum())))
        ray.shutdown()
        return found

    made = run.result(array, 100_000)
    assert Job(run, joins, made).result == {"json": 4999950000.0 / 2}
    assert run.result(joins, made) == 4999950000.0 / 2


def test_a_lost_value_is_named(run: Run) -> None:
    made = run.result(array, 100_000)
    run.ask("DELETE", run.value_path(made).partition("?")[0])
    job = Job(run, described, made)
    assert job.status == "FAILED"
    assert (
        job.record["refused"]["message"]
        == f"the value {made.value['key']} that the function takes is lost: it was freed"
    )


def test_without_a_runner_the_value_comes_back(run: Run) -> None:
    job = Job(run, array, 100_000, runner="airfreight-runner-none")
    assert job.status == "SUCCEEDED"
    assert "file" in job.result
    (said,) = [line for line in job.printed if line.startswith("airfreight:")]
    assert said.endswith("is sent to the task: no runner of this Airfreight is in the cluster")


def test_without_a_function_s_inputs_ray_isn_t_joined(run: Run) -> None:
    def modules() -> list[str]:
        import sys

        return [name for name in ("ray", "airfreight_cluster.cold") if name in sys.modules]

    assert Job(run, modules).result == {"json": ["airfreight_cluster.cold"]}
