"""
Goal: with one Airflow over several hosts, a task finds what another host's task has made, and the agents of all hosts
collect what Airflow has forgotten.

Method: a real Airflow whose tasks run on hosts in network namespaces, as in pods; each host has a store and an agent.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from airflow_home import AirflowHome
from airfreight._store import Store
from host_home import Network, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from host_home import Host

TESTS = Path(__file__).parents[1]
DAGS = Path(__file__).with_name("dags")

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network("ant", "bee") as network:
        yield network


@pytest.fixture(scope="module")
def airflow(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowHome]:
    folder = tmp_path_factory.mktemp("airflow")
    hosts = folder / "hosts.json"
    home = AirflowHome(
        DAGS,
        env={
            "AIRFLOW__API__HOST": "0.0.0.0",
            "AIRFLOW__CORE__EXECUTOR": "host_home.executor.HostsExecutor",
            "AIRFLOW__CORE__XCOM_BACKEND": "airfreight.xcom.AirfreightXCom",
            "AIRFREIGHT_TEST_HOSTS": str(hosts),
            "PYTHONPATH": str(TESTS),
        },
    )
    url = f"http://{network.join()}:{urlsplit(home.url).port}"
    for host in network.hosts:
        host.environment |= {"AIRFLOW__AIRFREIGHT__API_URL": url, "NO_PROXY": "*", "no_proxy": "*"}
        # The configuration is Airflow's own; a host's is its store and its network.
        del host.environment["AIRFLOW_HOME"]
    api = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/"}
    entered = {host.name: {"command": host.command(), "environment": host.environment | api} for host in network.hosts}
    hosts.write_text(json.dumps(entered))
    with home:
        token = folder / "api-token"
        token.write_text(home.token)
        for host in network.hosts:
            host.start_agent("--gc-every", "1s", "--gc-grace", "0", "--api-token-file", str(token))
        yield home


def names(host: Host) -> list[str]:
    return Store(f"{host.folder}/store", spill_path=f"{host.folder}/spill").names()


def collections(host: Host) -> float:
    """How often its agent has asked Airflow, and got an answer."""
    try:
        return host.metric('airfreight_collections_total{outcome="done"}')
    except LookupError:
        return 0


def test_a_value_goes_where_its_task_runs_and_is_collected_everywhere(airflow: AirflowHome, network: Network) -> None:
    ant, bee = network.hosts
    run_id = airflow.run("two_hosts")
    row = airflow.xcom("two_hosts", run_id, "make")
    used = airflow.xcom("two_hosts", run_id, "use")
    assert (row["host"], row["agent"]) == ("ant", "http://ant:8733")
    assert used == {"sum": 1_999_999_000_000.0, "host": "bee"}
    said = " ".join(str(line["event"]) for line in airflow.log("two_hosts", run_id, "use"))
    assert "from host ant: 15.3 MiB" in said
    assert names(ant) == names(bee) == [row["id"]]

    # What Airflow knows stays, however often it is asked.
    asked = [(host, collections(host)) for host in (ant, bee)]
    for host, count in asked:
        until(lambda host=host, count=count: collections(host) > count + 1)
    assert names(ant) == names(bee) == [row["id"]]

    airflow.request("DELETE", f"/dags/two_hosts/dagRuns/{run_id}")
    for host in (ant, bee):
        until(lambda host=host: not names(host))
        assert host.metric('airfreight_removed_objects_total{why="gone"}') == 1


def until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that")
