"""Values between a store and a real cluster: every byte, over each way, through cuts, damage and deaths."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from transfer_home import INFO, MIB, Near, near

from airfreight.errors import (
    CorruptError,
    InvalidError,
    ObjectLostError,
    ObjectNotFoundError,
    StoreFullError,
    UnavailableError,
)

if TYPE_CHECKING:
    from transfer_home import Far

pytestmark = pytest.mark.slow

LARGE = 200 * 1000 * 1000


@pytest.fixture
def large(far: Far, here: Near) -> dict[str, Any]:
    """A value of 200 MB in the cluster."""
    return far.runner.send(here.put(LARGE), here.settings, far.owner(), INFO)


@pytest.mark.parametrize(("route", "transport"), [("port", "port"), ("dashboard", "mailbox"), ("auto", "auto")])
def test_values_go_there_and_come_back_byte_for_byte(
    far: Far, here: Near, there: Near, route: str, transport: str
) -> None:
    runner = far.handle(transport)
    owner = far.owner()
    for nbytes in (0, 1, 1000, 4 * MIB - 500, 4 * MIB, 37 * MIB + 5):
        name = here.put(nbytes)
        value = runner.send(name, here.settings, owner, INFO, route=route)
        assert value["key"] == f"object-{name}"
        assert value["owner"] == owner
        arrived = runner.fetch({**value, "nbytes": nbytes}, there.settings, route=route)
        there.assert_is(arrived, nbytes)
    assert there.store.stat()["unfinished"] == 0


def test_what_is_there_is_not_sent_or_fetched_again(far: Far, here: Near, there: Near) -> None:
    name, owner = here.put(20 * MIB), far.owner()
    value = far.runner.send(name, here.settings, owner, INFO)
    link = here.store.link(name)
    with far.cutting() as proxy:
        runner = far.handle()
        assert runner.send(name, here.settings, owner, INFO) == value
        assert runner.send(link, here.settings, owner, INFO) == value
        assert proxy.up.passed_bytes < MIB
        arrived = runner.fetch(value, there.settings)
        passed_bytes = proxy.down.passed_bytes
        assert runner.fetch(value, there.settings) == arrived
        assert proxy.down.passed_bytes == passed_bytes


def test_a_fetch_goes_on_after_cuts(far: Far, large: dict[str, Any], there: Near) -> None:
    with far.cutting() as proxy:
        proxy.down.cuts = [30_000_000, 100_000_001, 100_000_002, 170_000_000]
        there.assert_is(far.handle().fetch(large, there.settings), LARGE)
        assert not proxy.down.cuts
        # At most the chunk that was cut comes twice.
        assert proxy.down.passed_bytes < LARGE + 5 * 5 * MIB


def test_sending_goes_on_after_cuts(far: Far, here: Near, there: Near) -> None:
    name, owner = here.put(LARGE), far.owner()
    with far.cutting() as proxy:
        proxy.up.cuts = [30_000_000, 100_000_001, 100_000_002, 170_000_000]
        value = far.handle().send(name, here.settings, owner, INFO)
        assert not proxy.up.cuts
        assert proxy.up.passed_bytes < LARGE + 5 * 13 * MIB
    there.assert_is(far.runner.fetch(value, there.settings), LARGE)


def test_damaged_chunks_are_asked_for_again(far: Far, here: Near, there: Near) -> None:
    name, owner = here.put(40 * MIB), far.owner()
    with far.cutting() as proxy:
        proxy.up.flips = [10_000_000, 30_000_000]
        value = far.handle().send(name, here.settings, owner, INFO)
        assert not proxy.up.flips
        proxy.down.flips = [proxy.down.passed_bytes + 7_000_000, proxy.down.passed_bytes + 30_000_000]
        there.assert_is(far.handle().fetch(value, there.settings), 40 * MIB)
        assert not proxy.down.flips


def test_what_always_arrives_damaged_is_refused(far: Far, here: Near, there: Near) -> None:
    value = far.runner.send(here.put(4 * MIB - 1000), here.settings, far.owner(), INFO)
    with far.cutting() as proxy:
        proxy.down.flips = list(range(2 * MIB, 64 * MIB, 3 * MIB))
        with pytest.raises(CorruptError, match="arrived damaged 3 times"):
            far.handle().fetch(value, there.settings)
    there.assert_empty()


_RECEIVER = """
import json, sys
from airfreight._remote import RayClient
from airfreight.ray.parcel import driver_package
given = json.loads(sys.argv[1])
runner = RayClient(given["address"]).runner(driver_package(), idle_seconds=0, transport="port")
runner.fetch(given["value"], given["store"], route="port")
"""


def test_a_killed_receiver_leaves_nothing(far: Far, large: dict[str, Any], there: Near) -> None:
    with far.cutting() as proxy:
        proxy.down.hold_at = 80_000_000
        given = {"address": far.cluster.address, "value": large, "store": there.settings}
        receiver = subprocess.Popen([sys.executable, "-c", _RECEIVER, json.dumps(given)])
        assert proxy.down.held.wait(60), receiver.poll()
        stat = there.store.stat()
        assert stat["unfinished"] == 1, stat
        assert stat["used_bytes"] >= LARGE, "room is taken before anything comes"
        receiver.send_signal(signal.SIGKILL)
        receiver.wait(30)
    there.store.collect()
    there.assert_empty()
    there.assert_is(far.runner.fetch(large, there.settings), LARGE)


def test_an_export_that_is_lost_is_made_anew(far: Far, large: dict[str, Any], there: Near) -> None:
    about = far.about
    value = [large["owner"], large["generation"], large["key"]]
    export = hashlib.sha256(json.dumps([value, {"kind": "port"}], sort_keys=True).encode()).hexdigest()[:32]
    lose = urllib.request.Request(
        f"http://127.0.0.1:{about['port']}/v1/exports/{export}",
        method="DELETE",
        headers={"Authorization": f"Bearer {about['token']}"},
    )
    with far.cutting() as proxy, ThreadPoolExecutor(1) as pool:
        proxy.down.hold_at = 80_000_000
        fetching = pool.submit(far.handle().fetch, large, there.settings)
        assert proxy.down.held.wait(60)
        with urllib.request.urlopen(lose) as answer:
            assert json.load(answer) == {"ended": True}
        proxy.down.cuts = [proxy.down.passed_bytes]
        proxy.down.released.set()
        there.assert_is(fetching.result(), LARGE)
        # What had come before counts.
        assert proxy.down.passed_bytes < LARGE + 10 * MIB


def test_a_full_store_is_told_before_anything_comes(far: Far, large: dict[str, Any]) -> None:
    with near(64, 0) as full, far.cutting() as proxy:
        with pytest.raises(StoreFullError, match="no room"):
            far.handle().fetch(large, full.settings)
        assert proxy.down.passed_bytes < MIB
        full.assert_empty()


def test_a_full_memory_spills(far: Far, large: dict[str, Any]) -> None:
    with near(64, 600) as small:
        name = far.runner.fetch(large, small.settings)
        assert small.store.describe(name)["tier"] == "spill"
        small.assert_is(name, LARGE)


def test_two_fetches_at_once_are_one_object(far: Far, large: dict[str, Any], there: Near) -> None:
    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda _: far.handle().fetch(large, there.settings), range(2)))
    assert len(set(names)) == 1
    there.assert_is(names[0], LARGE)
    assert there.store.stat()["objects"] == 1


@pytest.mark.parametrize(("route", "transport"), [("port", "port"), ("dashboard", "mailbox")])
def test_two_who_send_the_same_are_one_value(far: Far, here: Near, there: Near, route: str, transport: str) -> None:
    name, owner = here.put(50 * MIB), far.owner()
    with ThreadPoolExecutor(2) as pool:
        sent = list(
            pool.map(lambda _: far.handle(transport).send(name, here.settings, owner, INFO, route=route), range(2))
        )
    assert sent[0] == sent[1]
    (about,) = [found for found in far.runner.owners() if found["name"] == owner]
    assert about["values"] == 1
    there.assert_is(far.runner.fetch(sent[0], there.settings), 50 * MIB)


def test_what_no_way_carries_names_both_settings(far: Far, there: Near) -> None:
    value = {"owner": far.owner(), "generation": "0" * 16, "key": "k", "nbytes": 300 * MIB}
    with pytest.raises(UnavailableError, match=r"256 MiB at most, it has 300 MiB") as caught:
        far.handle("mailbox").fetch(value, there.settings)
    assert "runner_port" in caught.value.hint
    assert "[airfreight] checkpoint" in caught.value.hint
    there.assert_empty()


def test_a_value_that_is_gone_is_lost(far: Far, here: Near, there: Near) -> None:
    value = far.runner.send(here.put(1000), here.settings, far.owner(), INFO)
    far.runner.drop(value["owner"], value["key"])
    for gone in (value, {**value, "generation": "0" * 16}, {**value, "owner": far.owner()}):
        with pytest.raises(ObjectLostError):
            far.runner.fetch(gone, there.settings)
    there.assert_empty()


def test_wrong_arguments_are_named(far: Far, here: Near, there: Near) -> None:
    with pytest.raises(InvalidError, match="route=`sea`"):
        far.runner.fetch({"owner": "o", "generation": "g", "key": "k"}, there.settings, route="sea")
    with pytest.raises(ObjectNotFoundError):
        far.runner.send("0" * 32, here.settings, far.owner(), INFO)


def test_progress_is_told(far: Far, large: dict[str, Any], there: Near) -> None:
    told: list[tuple[int, int]] = []
    with far.cutting() as proxy:
        proxy.down.hold_at = 80_000_000

        def hear(done: int, total: int) -> None:
            told.append((done, total))
            # All but the chunks that are on their way has arrived.
            if done > 70_000_000:
                proxy.down.released.set()

        far.handle().fetch(large, there.settings, progress=hear)
    assert {total for _, total in told} == {there.store.describe(there.store.names()[0])["file_bytes"]}
    assert any(70_000_000 < done < 80_000_000 for done, _ in told), told
    assert told == sorted(told)
