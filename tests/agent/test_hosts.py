"""
Goal: a task reads a value that was made on another host as if it were local, or hears at once why it can't.

Method: three hosts in network namespaces, with their own stores, agents and addresses; tasks are processes on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from host_home import Host, Network

MIB = 1 << 20

Hosts = tuple["Host", "Host", "Host"]


def make(host: Host, nbytes: int, seed: int = 1, **settings: str) -> dict[str, Any]:
    made: dict[str, Any] = host.task("make", {"nbytes": nbytes, "seed": seed}, settings).end()["result"]
    return made


def read(host: Host, made: dict[str, Any], **settings: str) -> dict[str, Any]:
    return host.task("read", made["row"], settings).end()


def assert_read(read: dict[str, Any], made: dict[str, Any]) -> None:
    assert read.get("result", read)["digest"] == made["digest"], read["log"]


def test_a_value_is_read_on_every_host_and_moved_once(hosts: Hosts) -> None:
    a, b, c = hosts
    made = make(a, 40 * MIB)
    assert made["row"]["agent"] == "http://ant:8733"
    for host in (b, c):
        done = read(host, made)
        assert_read(done, made)
        assert "fetched the value of task d.make, run r" in done["log"]
        assert "from host ant: 40.0 MiB" in done["log"]
    sent = a.metric("airfreight_sent_bytes_total")
    assert 80 * MIB < sent < 81 * MIB
    again = read(b, made)
    assert_read(again, made)
    assert "fetched" not in again["log"]
    assert_read(read(a, made), made)
    assert a.metric("airfreight_sent_bytes_total") == sent


def test_ten_tasks_that_ask_at_once_share_one_transfer(hosts: Hosts) -> None:
    a, b, _ = hosts
    made = make(a, 60 * MIB)
    a.throttle("400mbit")
    tasks = [b.task("read", made["row"]) for _ in range(10)]
    for task in tasks:
        assert_read(task.end(), made)
    assert a.metric("airfreight_sent_bytes_total") < 61 * MIB
    stat = b.task("count").end()["result"]
    assert (stat["objects"], stat["unfinished"]) == (1, 0)


@pytest.mark.parametrize("template", ["http://{HOST_IP}:8733", "http://{HOST_IP6}:8733"])
def test_addresses_come_from_variables_and_may_be_of_ipv6(hosts: Hosts, template: str) -> None:
    a, b, _ = hosts
    made = make(a, 5 * MIB, agent_url=template)
    assert made["row"]["agent"] in (f"http://{a.address}:8733", f"http://[{a.address6}]:8733")
    assert_read(read(b, made), made)


@pytest.mark.slow
def test_a_link_that_is_cut_for_a_while_costs_time_and_nothing_else(hosts: Hosts) -> None:
    a, b, _ = hosts
    made = make(a, 100 * MIB)
    a.throttle("200mbit")
    task = b.task("read", made["row"])
    _until_sent(a, 20 * MIB)
    a.cut()
    # Longer than what is under way takes, shorter than the patience of the one who waits.
    _sleep(3)
    a.mend()
    done = task.end()
    assert_read(done, made)
    assert "of 100.0 MiB from host ant so far" in done["log"]


@pytest.mark.slow
def test_a_host_that_is_gone_in_the_middle_is_named_with_the_task_to_clear(hosts: Hosts) -> None:
    a, b, _ = hosts
    made = make(a, 100 * MIB)
    a.throttle("100mbit")
    task = b.task("read", made["row"])
    _until_sent(a, 10 * MIB)
    a.cut()
    done = task.end()
    assert done["error"] == "ObjectLostError", done
    assert "host ant, which cannot be reached" in done["message"]
    assert "clear task make of run r of DAG d" in done["hint"]
    stat = b.task("count").end()["result"]
    assert (stat["objects"], stat["unfinished"]) == (0, 0)


@pytest.mark.slow
def test_a_host_that_is_gone_before_is_told_and_its_checkpoint_read(hosts: Hosts, tmp_path: Path) -> None:
    a, b, c = hosts
    made = make(a, 20 * MIB)
    wanted = {"nbytes": 20 * MIB, "seed": 2, "checkpoint": f"file://{tmp_path}/bucket"}
    kept = a.task("make", wanted).end()["result"]
    a.kill_agent()
    done = read(b, made)
    assert (done["error"], "host ant" in done["message"]) == ("ObjectLostError", True)
    a.cut()
    done = read(c, made)
    assert (done["error"], "host ant" in done["message"]) == ("ObjectLostError", True)
    done = read(b, kept)
    assert_read(done, kept)
    assert "reading its checkpoint" in done["log"]


def test_what_is_gone_from_its_host_is_lost_and_says_so(hosts: Hosts) -> None:
    a, b, _ = hosts
    made = make(a, 5 * MIB)
    for path in (a.folder / "store" / "objects").iterdir():
        path.unlink()
    done = read(b, made)
    assert done["error"] == "ObjectLostError"
    assert "is gone from host ant" in done["message"]


def test_a_full_host_refuses_before_it_takes_anything(hosts: Hosts) -> None:
    a, b, _ = hosts
    made = make(a, 60 * MIB)
    small = {"capacity_bytes": "32 MiB", "spill_capacity_bytes": "0"}
    done = read(b, made, **small)
    assert done["error"] == "StoreFullError", done
    assert a.metric("airfreight_sent_bytes_total") < 6 * MIB
    stat = b.task("count", settings=small).end()["result"]
    assert (stat["objects"], stat["unfinished"]) == (0, 0)


@pytest.mark.slow
def test_agents_that_start_again_under_load_lose_nothing(hosts: Hosts) -> None:
    a, b, c = hosts
    values = [make(a, 30 * MIB, seed) for seed in range(4)]
    a.throttle("300mbit")
    tasks = [(host.task("read", made["row"]), made) for made in values for host in (b, c)]
    for end in (a.stop_agent, a.kill_agent):
        _until_sent(a, 10 * MIB)
        end()
        a.start_agent()
    for task, made in tasks:
        assert_read(task.end(), made)


def test_the_wrong_token_is_refused_and_never_shown(network: Network, hosts: Hosts, tmp_path: Path) -> None:
    a, b, _ = hosts
    made = make(a, 5 * MIB)
    wrong = tmp_path / "token"
    wrong.write_text("another-token-than-its")
    done = read(b, made, agent_token_file=str(wrong))
    assert done["error"] == "DeniedError"
    assert "agent_token_file" in done["hint"]
    everything = f"{done}{(a.folder / 'agent.log').read_text()}{made}"
    assert network.token not in everything
    assert "another-token" not in everything


def _until_sent(host: Host, nbytes: int) -> None:
    for _ in range(600):
        if host.metric("airfreight_sent_bytes_total") >= nbytes:
            return
        _sleep(0.05)
    raise AssertionError(f"{nbytes} bytes were not sent")


def _sleep(seconds: float) -> None:
    import time

    time.sleep(seconds)
