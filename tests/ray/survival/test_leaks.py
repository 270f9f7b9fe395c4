"""
Goal: what runs have had in a cluster is gone when they are over, however many there were.
Method: many runs by a real runner on a real Ray; then Ray's store and actors are as after the first. `make soak-ray`
makes two hundred of them.
"""

from __future__ import annotations

import os
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

#: Each run starts a process; on a busy machine that takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RUNS = int(os.environ.get("AIRFREIGHT_TEST_RUNS", "12"))
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def runner(frail_ray: RayHome) -> Iterator[RunnerHome]:
    home = RunnerHome(frail_ray)
    home.start()
    yield home
    home.close()


def array(mib: int) -> Any:
    import numpy as np

    return np.ones(mib * 1024 * 1024 // 8)


def doubled(value: Any) -> Any:
    return value * 2


def total(value: Any) -> float:
    return float(value.sum())


def used() -> int:
    """What the objects in the cluster's store take, by Ray's own count."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    stats = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats
    return int(stats.object_store_bytes_used)


def store_bytes(home: RunnerHome) -> int:
    run = Run(home)
    try:
        found: int = run.result(used)
        return found
    finally:
        run.end()


def owners(ray: RayHome) -> int:
    return sum(each["state"] == "ALIVE" and each["name"].startswith("airfreight-owner-") for each in actors(ray))


def one(home: RunnerHome) -> None:
    """A run of three calls, which ends as its last task would end it."""
    run = Run(home)
    made = run.result(array, 2)
    assert isinstance(made, Input)
    assert run.result(total, run.result(doubled, made)) == 2.0 * 2 * MIB / 8
    run.end()


def test_runs_leave_nothing(runner: RunnerHome, frail_ray: RayHome) -> None:
    one(runner)
    before = store_bytes(runner)
    for _ in range(RUNS):
        one(runner)
    until(lambda: owners(frail_ray) == 0, "all owners to end")
    assert runner.request("GET", "/v1/owners") == {"owners": []}
    until(lambda: store_bytes(runner) <= before, f"Ray's store to be back at {before} bytes")
    staged = [path for path in (frail_ray.session / "airfreight").rglob("*") if path.is_file()]
    assert staged == []


def test_a_run_that_is_not_over_is_seen(runner: RunnerHome) -> None:
    """The test above would notice."""
    before = store_bytes(runner)
    run = Run(runner)
    run.result(array, 2)
    assert store_bytes(runner) >= before + 2 * MIB
    (owner,) = runner.request("GET", "/v1/owners")["owners"]
    assert (owner["name"], owner["values"]) == (run.name, 1)
    run.end()
    until(lambda: store_bytes(runner) <= before, f"Ray's store to be back at {before} bytes")
