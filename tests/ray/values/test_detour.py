"""
Goal: what is too large for the dashboard reaches a cluster of which nothing else can be reached, and comes back.

Method: a runner whose port nobody may use, 300 MB, a real S3 server, a front of it that is Google's, and Azurite where
it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from transfer_home import INFO, MIB, Near, near

from airfreight import process
from airfreight.errors import OutOfReachError
from airfreight.ray import plane
from airfreight.ray.handle import StoredValue
from bucket_home import AZURITE, AzureServer, GoogleServer, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transfer_home import Far

    from airfreight.process import Process

pytestmark = pytest.mark.slow

NBYTES = 300 * 1000 * 1000
TASK = {"dag_id": "flights", "run_id": "r", "task_id": "train", "key": "return_value"}


SERVERS = {"s3": S3Server, "google": GoogleServer, "azure": AzureServer}


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "azure" and not AZURITE.exists():
        pytest.skip("Azurite is not there: `make azure` installs it")
    with SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def stores() -> Iterator[list[Near]]:
    with near(900, 0) as one, near(900, 0) as other:
        yield [one, other]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this process one of the host that has a store, with a bucket or without one."""

    def host(store: Near, checkpoint: str | None) -> Process:
        monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
        monkeypatch.setenv("AIRFLOW__AIRFREIGHT__STORE_PATH", store.settings["path"])
        monkeypatch.setenv("AIRFLOW__AIRFREIGHT__CAPACITY_BYTES", str(900 * MIB))
        if checkpoint is None:
            monkeypatch.delenv("AIRFLOW__AIRFREIGHT__CHECKPOINT", raising=False)
        else:
            monkeypatch.setenv("AIRFLOW__AIRFREIGHT__CHECKPOINT", checkpoint)
        monkeypatch.setattr(process, "_current", None)
        return process.here()

    return host


def cluster(far: Far) -> plane.Cluster:
    return plane.Cluster("ray", None, far.client, far.handle("mailbox"), far.client.cluster().get("session_name"))


def stored(name: str) -> StoredValue:
    return StoredValue({"id": name, "type": "test", "size": "300 MB", "owner": TASK})


def test_a_large_value_goes_through_the_bucket(
    far: Far,
    stores: list[Near],
    host: Any,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    from airfreight._remote import Bucket

    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    url = server.make_bucket("transit")
    here, there = stores
    mine = host(here, url)
    place = plane.send(mine, stored(here.put(NBYTES)), cluster(far), far.owner(), INFO)
    assert not Bucket(url).list()

    other = host(there, url)
    far_away = other.clusters["ray", None] = cluster(far)
    ray = {**place, "conn": "ray", "session": far_away.session}
    row = {"type": "test", "size": "300 MB", "nbytes": NBYTES, "ray": ray, "owner": TASK}
    there.assert_is(plane.fetch(other, row, reads=False), NBYTES)
    assert not Bucket(url).list()
    assert any(f"through {url}" in line for line in said), said
    assert not any("-Signature" in line or "sig=" in line for line in said)


@pytest.mark.parametrize("checkpoint", [None, "file:///tmp/airfreight-no-bucket"])
def test_without_a_bucket_the_error_names_both_settings(
    far: Far, stores: list[Near], host: Any, checkpoint: str | None
) -> None:
    mine = host(stores[0], checkpoint)
    with pytest.raises(OutOfReachError) as raised:
        plane.send(mine, stored(stores[0].put(NBYTES)), cluster(far), far.owner(), INFO)
    assert "256 MiB" in str(raised.value)
    assert "runner_port" in str(raised.value)
    assert "[airfreight] checkpoint" in str(raised.value)
