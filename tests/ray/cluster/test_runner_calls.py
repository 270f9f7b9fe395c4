"""
Goal: a function that is called through the runner does and gives what it does at home.

Method: a real Ray with a runner, and a client of its protocol that is as small as can be; both transports.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from runner_client import Input, RefusedError, Run, RunnerHome

Load = Callable[[str], ModuleType]


def plus_one(x: int) -> int:
    return x + 1


def printing(text: str) -> None:
    print("out", text)
    print("err", text, file=sys.stderr)
    os.system("echo from a shell")


def failing() -> None:
    raise ValueError("no way")


def numbers(count: int) -> Any:
    import numpy as np

    return np.arange(count)


def described(array: Any) -> dict[str, Any]:
    return {"sum": int(array.sum()), "owns": bool(array.flags.owndata), "writeable": bool(array.flags.writeable)}


def in_parts() -> Any:
    import numpy as np

    return {"long": np.arange(50_000), "short": 5, "odd/key": np.arange(9)}


def lengths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: len(part) if hasattr(part, "__len__") else part for key, part in value.items()}
    return [len(part) for part in value]


def is_same(one: Any, other: Any) -> bool:
    return one is other


def messing_up() -> str:
    import logging

    os.environ["LEFT_BEHIND"] = "1"
    os.chdir("/")
    sys.path.insert(0, "/nowhere")
    logging.basicConfig(level=logging.DEBUG)
    return str(os.getpid())


def what_is_left() -> list[Any]:
    import logging

    return [
        os.environ.get("LEFT_BEHIND"),
        Path.cwd() == Path("/"),
        "/nowhere" in sys.path,
        logging.getLogger().level == logging.DEBUG,
        [name for name in sys.modules if name.startswith(("test_runner", "shifting_flow"))] == [__name__],
    ]


def two_references() -> Any:
    import ray

    return [ray.put(5), ray.put(6)]


def added(references: Any) -> int:
    import ray

    return int(sum(ray.get(list(references))))


def counter() -> Any:
    import ray

    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    made = Counter.remote()
    ray.get(made.add.remote())
    return {"counter": made}


def count_on(counter: Any) -> int:
    import ray

    return int(ray.get(counter["counter"].add.remote()))


def nested(count: int) -> list[int]:
    import ray

    @ray.remote(num_cpus=0)
    def one(x: int) -> int:
        return plus_one(x)

    ray.init()
    found = ray.get([one.remote(x) for x in range(count)])
    ray.shutdown()
    return list(found)


def data_set() -> Any:
    import ray

    return ray.data.range(100).map(lambda row: {"id": row["id"] * 2}).materialize()


def data_sum(data: Any) -> int:
    return int(data.sum("id"))


def test_json_comes_back_at_once(run_each_way: Run) -> None:
    assert [run_each_way.result(plus_one, n) for n in range(3)] == [1, 2, 3]


def test_a_value_stays_and_is_mapped_by_the_next_call(run_each_way: Run) -> None:
    value = run_each_way.result(numbers, 100_000)
    assert value.value["nbytes"] > 800_000
    assert value.value["type"] == "numpy.ndarray"
    assert value.value["preview"]["shape"] == [100_000]
    found = run_each_way.result(described, value)
    assert found == {"sum": 4_999_950_000, "owns": False, "writeable": False}


def test_the_same_value_twice_is_one_object(run: Run) -> None:
    value = run.result(numbers, 100_000)
    assert run.result(is_same, value, value)


def test_a_value_of_another_run_is_taken(run: Run, runner: Any) -> None:
    other = Run(runner)
    value = other.result(numbers, 50_000)
    assert run.result(described, value)["sum"] == 1_249_975_000
    other.end()


def test_whatever_is_printed_is_in_the_calls_own_log(run: Run) -> None:
    state = run.call(printing, "ö\udc80")
    assert state["status"] == "SUCCEEDED"
    assert sorted(state["tail"].split("\n")) == ["", "err ö\\udc80", "from a shell", "out ö\\udc80"]
    log = run.home.ray.log(state["id"])
    assert log == state["tail"]
    assert len(log.encode()) == state["log_bytes"]


def test_an_exception_comes_back_with_its_lines(run_each_way: Run) -> None:
    state = run_each_way.call(failing)
    assert state["status"] == "FAILED"
    assert state["error_type"] is None
    error = state["record"]["error"]
    assert (error["type"], error["text"]) == ("ValueError", "no way")
    assert [frame[1] for frame in error["frames"]] == ["failing"]
    assert 'raise ValueError("no way")' in state["tail"]


def test_a_call_that_is_sent_again_is_the_same_call(run: Run) -> None:
    wanted = run.wanted(plus_one, (1,))
    states = [run.wait(run.begin(wanted, wait=1)) for _ in range(2)]
    assert states[0] == states[1]
    with pytest.raises(RefusedError) as refused:
        run.begin({**wanted, "nonce": "another"})
    assert (refused.value.status, refused.value.kind) == (409, "Conflict")


def test_a_process_is_put_in_order_after_each_call(run: Run) -> None:
    run.call(messing_up)
    assert run.result(what_is_left) == [None, False, False, False, True]


def test_another_version_of_the_file_runs_in_the_same_process(run: Run, dag_file: Load) -> None:
    text = "import os\nFACTOR = {}\ndef scaled(x):\n    return [FACTOR * x, os.getpid()]\n"
    first = run.result(dag_file(text.format(2)).scaled, 10)
    second = run.result(dag_file(text.format(3)).scaled, 10)
    assert (first[0], second[0]) == (20, 30)


def test_an_object_of_a_dag_files_class_goes_from_call_to_call(run: Run, dag_file: Load) -> None:
    module = dag_file(
        """
        from dataclasses import dataclass

        @dataclass
        class Row:
            n: int
            text: str

            def doubled(self):
                return Row(self.n * 2, self.text)

        def make():
            return [Row(n, str(n) * 1000) for n in range(30)]

        def take(rows):
            return sum(row.doubled().n for row in rows)

        def pass_on(rows):
            return rows[::-1]
        """
    )
    value = run.result(module.make)
    assert isinstance(value, Input)
    assert run.result(module.take, value) == 870
    assert run.result(module.take, run.result(module.pass_on, value)) == 870


def test_a_dict_is_kept_in_parts(run: Run) -> None:
    whole = run.result(in_parts, parts="auto")
    assert whole.value["form"] == "parts"
    parts = whole.value["parts"]
    assert parts["short"] == {"json": 5}
    assert parts["odd/key"]["key"].endswith("/odd%2Fkey")
    assert run.result(described, Input(parts["long"]))["sum"] == 1_249_975_000
    assert run.result(lengths, whole) == {"long": 50_000, "short": 5, "odd/key": 9}


def test_what_a_result_refers_to_needs_eager(run: Run) -> None:
    state = run.call(two_references)
    assert state["status"] == "FAILED"
    assert "eager=True" in state["record"]["refused"]["hint"]
    value = run.result(two_references, eager=True)
    assert value.value["form"] == "native"
    assert run.result(added, value) == 11


def test_an_actor_within_a_result_lives_on(run: Run) -> None:
    value = run.result(counter, eager=True)
    assert [run.result(count_on, value) for _ in range(2)] == [2, 3]


def test_a_function_may_use_ray_itself(run: Run) -> None:
    assert run.result(nested, 3) == [1, 2, 3]


def test_a_data_set_is_passed_on(run: Run) -> None:
    value = run.result(data_set, eager=True, options={"num_cpus": 0})
    assert value.value["form"] == "native"
    assert run.result(data_sum, value, options={"num_cpus": 0}) == 9900


def test_a_fresh_process_is_one_that_nobody_used(run: Run) -> None:
    used = {run.result(own_pid) for _ in range(2)}
    fresh = [run.result(own_pid, isolation="process") for _ in range(2)]
    assert len({*used, *fresh}) == len(used) + 2


def own_pid() -> int:
    return os.getpid()


def of_environment(name: str) -> str | None:
    return os.environ.get(name)


def test_the_first_function_of_a_run_waits_for_no_new_process(runner: RunnerHome) -> None:
    """Processes are started ahead, a second after an owner was made: one of the next runs finds one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = set(runner.ray.pids)
        run = Run(runner)
        pid = run.result(own_pid)
        run.end()
        if pid in before:
            return
        time.sleep(2)
    raise AssertionError("each run's first function has had Ray start a process")


def test_a_task_may_have_its_own_environment(run: Run) -> None:
    options = {"runtime_env": {"env_vars": {"MINE": "yes"}}}
    assert run.result(of_environment, "MINE", options=options) == "yes"
    assert run.result(of_environment, "MINE") is None


def test_events_tell_of_every_end(run: Run) -> None:
    now = run.ask("GET", "/v1/events")
    state = run.call(plus_one, 1)
    deadline = time.monotonic() + 30
    found: list[Any] = []
    while not found:
        assert time.monotonic() < deadline
        news = run.ask("GET", f"/v1/events?epoch={now['epoch']}&since={now['seq']}&wait=5")
        assert not news["lost"]
        found = [event for event in news["events"] if event["id"] == state["id"]]
    assert {**state, "epoch": now["epoch"], "seq": found[-1]["seq"]} == found[-1]


def test_nobody_gets_in_without_the_token(run: Run) -> None:
    for ask in (run.home.request, run.home.mail):
        with pytest.raises(RefusedError) as refused:
            ask("GET", "/v1/owners", token="0" * 64)
        assert (refused.value.status, refused.value.kind) == (401, "Denied")
