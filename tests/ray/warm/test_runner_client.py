"""The client of the runner on a real Ray: both ways there, kills, a silent dashboard, cancellation."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from airfreight import errors
from airfreight._remote import CallWatch, RayClient, Watch
from airfreight.ray import skew
from airfreight.ray.function import Function
from airfreight.ray.parcel import Parcel, driver_package
from ray_home import RayHome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airfreight._remote import RayRunner

pytestmark = pytest.mark.slow

OVER = ("SUCCEEDED", "FAILED", "STOPPED")


def answer() -> int:
    print("thinking")
    return 40 + 2


def slow(path: str) -> str:
    """Returns when the file is there."""
    import os
    import time

    print("waiting", flush=True)
    while not os.path.exists(path):  # noqa: PTH110 - runs on the cluster
        time.sleep(0.01)
    print("done")
    return "waited"


def talk(lines: int) -> int:
    for number in range(lines):
        print(f"line {number} of what is said")
    return lines


@pytest.fixture(scope="module")
def ray() -> Iterator[RayHome]:
    with RayHome.start(num_cpus=4) as ray:
        yield ray


@pytest.fixture(params=["port", "mailbox"])
def runner(ray: RayHome, request: pytest.FixtureRequest) -> RayRunner:
    return connect(ray, request.param)


def connect(ray: RayHome, transport: str = "auto") -> RayRunner:
    client = RayClient(ray.address, timeout=20, patience=120)
    return client.runner(driver_package(), idle_seconds=0, transport=transport)


class Run:
    """The calls of one DAG run."""

    def __init__(self) -> None:
        self.owner = f"airfreight-owner-{uuid4().hex[:20]}"

    def wanted(self, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
        source = Function(function, [])
        arguments = source.argument(args, {})
        parcel = Parcel(source, arguments, environment={}, libraries=skew.versions(source.libraries()))
        return {
            "id": f"af-test-{uuid4().hex}-0-1",
            "nonce": uuid4().hex,
            "name": f"tests.{function.__name__}",
            "owner": {"name": self.owner, "deployment": "tests", "dag_id": "tests", "run_id": "tests"},
            "metadata": {},
            "options": {"num_cpus": 1},
            "isolation": "pool",
            "eager": False,
            "parcel": {
                "name": parcel.name,
                "zips": [base64.b64encode(package).decode() for package in parcel.packages()],
            },
            "inputs": [],
            "parts": "none",
            "inline_bytes_max": 12288,
        }


def follow(watch: Watch) -> tuple[dict[str, Any], list[str]]:
    """The last event of a watch, and all lines."""
    lines: list[str] = []
    while (event := watch.next(60)) is not None:
        if event["event"] == "lines":
            lines += event["lines"]
        elif event["event"] in ("ended", "gone"):
            return event, lines
    raise AssertionError(f"nothing more comes after {lines[-3:]}")


def value_of(state: dict[str, Any]) -> Any:
    assert state["status"] == "SUCCEEDED", state
    return state["record"]["result"]["json"]


def until(condition: Callable[[], Any]) -> Any:
    """What the condition becomes, once it is true."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it doesn't come true")


def ended(runner: RayRunner, wanted: dict[str, Any]) -> dict[str, Any]:
    """The last state of a call; to ask again for the same call makes no other."""
    found: dict[str, Any] = until(lambda: (state := runner.call(wanted))["status"] in OVER and state)
    return found


def about(ray: RayHome, runner: RayRunner) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ray.logs / "airfreight" / f"{runner.id}.json").read_text())
    return found


def test_both_ways_lead_to_values_and_logs(runner: RayRunner, ray: RayHome) -> None:
    ready = runner.ready(60)
    assert ready["ray"] == "2.60.0"
    assert ready["generation"] == about(ray, runner)["generation"]
    assert runner.running()
    run = Run()
    wanted = run.wanted(answer)
    state = ended(runner, wanted)
    assert value_of(state) == 42
    assert runner.call(wanted)["version"] == state["version"], "the same call"
    with runner.watch(run.owner, wanted["id"]) as watch:
        assert isinstance(watch, CallWatch)
        end, lines = follow(watch)
    assert (end["job"]["status"], end["log_error"]) == ("SUCCEEDED", None)
    assert "thinking" in lines
    with pytest.raises(errors.ConflictError):
        runner.call(wanted | {"nonce": "another"})
    assert [each["id"] for each in runner.calls(run.owner)] == [wanted["id"]]
    assert run.owner in [each["name"] for each in runner.owners()]
    assert runner.drop_owner(run.owner)
    assert runner.state(run.owner, wanted["id"]) is None


def test_auto_finds_the_port_by_itself(ray: RayHome) -> None:
    runner = connect(ray)
    assert runner.transport is None
    assert runner.ready(60)["transport"] == runner.transport == "port"


def test_a_long_log_arrives_whole(runner: RayRunner) -> None:
    run = Run()
    wanted = run.wanted(talk, 20_000)
    runner.call(wanted)
    with runner.watch(run.owner, wanted["id"]) as watch:
        end, lines = follow(watch)
    assert value_of(end["job"]) == 20_000
    assert [line for line in lines if line.startswith("line ")] == [f"line {n} of what is said" for n in range(20_000)]


def test_a_cursor_goes_on_where_another_watch_stopped(runner: RayRunner, tmp_path: Path) -> None:
    run = Run()
    wanted = run.wanted(slow, str(tmp_path / "go"))
    runner.call(wanted)
    with runner.watch(run.owner, wanted["id"]) as watch:
        lines: list[str] = []
        while "waiting" not in lines:
            event = watch.next(60)
            assert event is not None
            lines += event.get("lines", [])
        watch.close()
        cursor = watch.cursor
    (tmp_path / "go").touch()
    with runner.watch(run.owner, wanted["id"], cursor=cursor) as watch:
        _, rest = follow(watch)
    assert rest == ["done"]


def test_a_killed_runner_is_found_again_and_delivers(runner: RayRunner, ray: RayHome, tmp_path: Path) -> None:
    run = Run()
    calls = [run.wanted(slow, str(tmp_path / name)) for name in ("a", "b")]
    for wanted in calls:
        runner.call(wanted)
    watches = [runner.watch(run.owner, wanted["id"]) for wanted in calls]
    for watch in watches:
        assert watch.next(60) is not None
    before = about(ray, runner)
    os.kill(before["pid"], signal.SIGKILL)
    # One ends while there is no runner.
    (tmp_path / "a").touch()
    end, lines = follow(watches[0])
    assert value_of(end["job"]) == "waited"
    assert lines[-1] == "done"
    assert about(ray, runner)["epoch"] != before["epoch"]
    (tmp_path / "b").touch()
    assert value_of(follow(watches[1])[0]["job"]) == "waited"
    assert value_of(ended(runner, run.wanted(answer))) == 42


def test_a_call_that_meets_a_killed_runner_is_made_once(runner: RayRunner, ray: RayHome) -> None:
    run = Run()
    runner.ready(60)
    os.kill(about(ray, runner)["pid"], signal.SIGKILL)
    wanted = run.wanted(answer)
    state = ended(runner, wanted)
    assert value_of(state) == 42
    assert len(runner.calls(run.owner)) == 1


@contextmanager
def silent_dashboard(ray: RayHome) -> Iterator[None]:
    """The dashboard with all of its processes stands still."""
    pids = [pid for pid in ray.pids if b"dashboard" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"--log-dir")[0]]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.timeout(240)
def test_a_dashboard_that_is_away_for_a_while_is_waited_for(runner: RayRunner, ray: RayHome, tmp_path: Path) -> None:
    run = Run()
    wanted = run.wanted(slow, str(tmp_path / "go"))
    runner.call(wanted)
    other = run.wanted(answer)
    with runner.watch(run.owner, wanted["id"]) as watch, ThreadPoolExecutor(1) as pool:
        assert watch.next(60) is not None
        with silent_dashboard(ray):
            (tmp_path / "go").touch()
            calling = pool.submit(ended, runner, other)
            # How long it is away is what is tested.
            time.sleep(20)
        assert value_of(calling.result(90)) == 42
        assert value_of(follow(watch)[0]["job"]) == "waited"


def test_a_cancelled_call_ends_as_stopped(runner: RayRunner, tmp_path: Path) -> None:
    run = Run()
    wanted = run.wanted(slow, str(tmp_path / "never"))
    runner.call(wanted)
    with runner.watch(run.owner, wanted["id"]) as watch:
        while "waiting" not in (watch.next(60) or {}).get("lines", []):
            pass
        assert runner.cancel(run.owner, wanted["id"])
        end, _ = follow(watch)
    assert (end["job"]["status"], end["job"]["error_type"]) == ("STOPPED", "CANCELLED")
    assert not runner.cancel(run.owner, wanted["id"])


def test_a_call_that_nobody_knows_is_gone(runner: RayRunner) -> None:
    run = Run()
    with runner.watch(run.owner, "af-never-0-1") as watch:
        end, _ = follow(watch)
    assert (end["event"], end["replaced"]) == ("gone", False)
    assert runner.state(run.owner, "af-never-0-1") is None


def test_many_threads_call_at_once(runner: RayRunner) -> None:
    run = Run()
    with ThreadPoolExecutor(16) as pool:
        wanted = [run.wanted(answer) for _ in range(48)]
        states = list(pool.map(runner.call, wanted))
        for state in states:
            if state["status"] not in OVER:
                with runner.watch(run.owner, state["id"], logs=False) as watch:
                    state.update(follow(watch)[0]["job"])
    assert [value_of(state) for state in states] == [42] * 48
    assert threading.active_count() < 40


def test_a_forked_process_calls_by_itself(ray: RayHome) -> None:
    runner = connect(ray)
    run = Run()
    runner.call(run.wanted(answer))
    wanted = run.wanted(answer)
    child = os.fork()
    if not child:
        try:
            state = ended(runner, wanted)
            os._exit(0 if value_of(state) == 42 else 1)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert value_of(ended(runner, wanted)) == 42


def test_a_runner_that_was_stopped_is_started_again(ray: RayHome) -> None:
    runner = connect(ray)
    runner.ready(60)
    before = about(ray, runner)
    assert runner.end()
    until(lambda: not runner.running())
    run = Run()
    wanted = run.wanted(answer)
    state = ended(runner, wanted)
    assert value_of(state) == 42
    assert about(ray, runner)["generation"] != before["generation"]
