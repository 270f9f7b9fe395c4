"""
Goal: never two jobs for one task instance, and never the result of a cleared one.

Method: the rule is a pure function, so a simulated Airflow plays any sequence of deaths, retries and clears against it,
by the numbers that every version of Airflow was seen to give (``python -m tests.matrix.tries``).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airfreight.ray.attempt import Attempt, Known, Plan, plan

LIVE = ("PENDING", "RUNNING")
OVER = ("SUCCEEDED", "FAILED", "STOPPED")


def attempt(**changes: object) -> Attempt:
    fields = {
        "dag_id": "flights",
        "run_id": "manual__2026-11-21T08:00:00+00:00",
        "task_id": "train",
        "map_index": -1,
        "try_number": 1,
        "generation": 2,
    }
    return Attempt(**{**fields, **changes})  # type: ignore[arg-type]


BEGAN = datetime(2026, 11, 21, 9, tzinfo=timezone(timedelta(hours=1)))


def test_an_attempt_is_read_from_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airfreight.ray.attempt._deployment", lambda: "here")
    instance = SimpleNamespace(
        dag_id="d", run_id="r", task_id="t", map_index=None, try_number=3, max_tries=4, region_id=UUID(int=0)
    )
    context = {"ti": instance, "dag_run": SimpleNamespace(start_date=BEGAN)}
    expected = Attempt("d", "r", "t", -1, 3, 4, "2026-11-21T08:00:00.000000+00:00", "here")
    assert Attempt.of(context) == expected
    instance.region_id, instance.region_index = UUID(int=7), 5
    assert Attempt.of(context).region == f"{UUID(int=7)}/5"
    assert Attempt.of(context).task != expected.task
    later = SimpleNamespace(start_date=None, run_after=BEGAN + timedelta(hours=1), logical_date=BEGAN)
    assert Attempt.of({"ti": instance, "dag_run": later}).run == "2026-11-21T09:00:00.000000+00:00"


def test_airflows_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    context = {"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1, max_tries=0)}

    def deployment(**settings: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr("airfreight.process._current", None)
            for name, value in settings.items():
                patch.setenv(f"AIRFLOW__{name}", value)
            return Attempt.of(context).deployment

    staging, production = (
        deployment(API__BASE_URL=f"https://{name}.example.com") for name in ("staging", "production")
    )
    assert staging != production
    assert deployment(AIRFREIGHT__DEPLOYMENT="mine", API__BASE_URL="https://x.example.com") == "mine"


def test_the_id_names_dag_and_task() -> None:
    assert re.fullmatch(r"af-flights\.train-[0-9a-f]{16}-2-1", attempt().submission_id)
    assert re.fullmatch(r"af-flights\.train\.7-[0-9a-f]{16}-2-1", attempt(map_index=7).submission_id)


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300), st.integers(-1, 10**6))
def test_the_id_is_safe_whatever_the_names(dag_id: str, task_id: str, map_index: int) -> None:
    made = attempt(dag_id=dag_id, task_id=task_id, map_index=map_index, try_number=99, generation=999).submission_id
    assert re.fullmatch(r"af-[A-Za-z0-9._-]{1,120}", made)
    assert len(made) <= 128


@pytest.mark.parametrize(
    "change", [{"dag_id": "x"}, {"run_id": "x"}, {"task_id": "x"}, {"map_index": 0}, {"region": "x"}]
)
def test_task_instances_have_jobs_of_their_own(change: dict[str, object]) -> None:
    assert attempt(**change).task != attempt().task
    assert attempt(**change).submission_id != attempt().submission_id


def test_attempts_have_jobs_of_their_own() -> None:
    ids = {
        attempt(try_number=number, generation=generation, run=run).submission_id
        for number in (1, 2)
        for generation in (1, 2)
        for run in ("2026-11-20", "2026-11-21")
    }
    assert len(ids) == 8
    assert [attempt(try_number=number).named("nightly") for number in (1, 2, 3)] == [
        "nightly",
        "nightly-2",
        "nightly-3",
    ]


def test_only_own_jobs_count() -> None:
    earlier, later = attempt(try_number=1), attempt(try_number=2)
    mine = {"submission_id": "a", "status": "RUNNING", "metadata": earlier.metadata()}
    assert later.plan([mine]).take == Known("a", 2, 1, "RUNNING")
    strangers = [
        {"submission_id": "b", "status": "RUNNING", "metadata": attempt(dag_id="other").metadata()},
        {"submission_id": "c", "status": "RUNNING", "metadata": None},
        {"submission_id": None, "status": "RUNNING", "metadata": earlier.metadata()},
        {"submission_id": "d", "status": "RUNNING", "metadata": {**earlier.metadata(), "try_number": "two"}},
    ]
    assert later.plan(strangers) == Plan(None, ())


@pytest.mark.parametrize(
    ("run", "deployment", "status", "stopped"),
    [
        ("2026-11-20", "here", "RUNNING", True),
        ("2026-11-20", "here", "SUCCEEDED", False),
        ("2026-11-22", "here", "RUNNING", False),
        ("2026-11-20", "elsewhere", "RUNNING", False),
    ],
)
def test_an_older_run_of_the_same_id_is_stopped_and_never_taken_over(
    run: str, deployment: str, status: str, stopped: bool
) -> None:
    now = attempt(run="2026-11-21", deployment="here")
    older = attempt(run=run, deployment=deployment, try_number=7)
    job = {"submission_id": "old", "status": status, "metadata": older.metadata()}
    assert now.plan([job]) == Plan(None, ("old",) if stopped else ())
    assert not now.submitted(job)
    assert now.submitted({"submission_id": "x", "metadata": {**now.metadata(), "team": "y"}})


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ([], Plan(None, ())),
        ([Known("1", 2, 1, "RUNNING")], Plan(Known("1", 2, 1, "RUNNING"), ())),
        ([Known("1", 2, 1, "PENDING")], Plan(Known("1", 2, 1, "PENDING"), ())),
        ([Known("1", 2, 1, "SUCCEEDED")], Plan(Known("1", 2, 1, "SUCCEEDED"), ())),
        ([Known("1", 2, 1, "FAILED")], Plan(None, ())),
        ([Known("1", 2, 1, "STOPPED")], Plan(None, ())),
        # Cleared.
        ([Known("1", 1, 1, "RUNNING")], Plan(None, ("1",))),
        ([Known("1", 1, 1, "SUCCEEDED")], Plan(None, ())),
        # Retries became fewer before the clear.
        ([Known("1", 9, 1, "RUNNING")], Plan(None, ("1",))),
        # A live one goes before one that has succeeded.
        ([Known("1", 2, 1, "SUCCEEDED"), Known("2", 2, 2, "RUNNING")], Plan(Known("2", 2, 2, "RUNNING"), ())),
        # An attempt that should be dead does no harm to those after it.
        ([Known("4", 2, 4, "RUNNING")], Plan(None, ())),
    ],
)
def test_the_rule(known: list[Known], expected: Plan) -> None:
    assert plan(2, 3, known) == expected


class World:
    """Airflow and Ray, as far as the rule has to do with them."""

    def __init__(self, retries: int) -> None:
        self.retries = retries
        self.max_tries = retries
        self.try_number = 0
        self.jobs: dict[str, Known] = {}
        #: What the running attempt waits for.
        self.job: str | None = None
        self.submitted_for: list[tuple[int, int]] = []

    def start(self) -> None:
        self.try_number += 1
        chosen = plan(self.max_tries, self.try_number, self.jobs.values())
        for name in chosen.stop:
            self.set(name, "STOPPED")
        if chosen.take is None:
            name = f"{self.max_tries}-{self.try_number}"
            assert name not in self.jobs
            self.jobs[name] = Known(name, self.max_tries, self.try_number, "PENDING")
            self.submitted_for.append((self.max_tries, self.try_number))
            self.job = name
        else:
            self.job = chosen.take.submission_id

    def set(self, name: str, status: str) -> None:
        self.jobs[name] = self.jobs[name]._replace(status=status)

    def clear(self) -> None:
        # The worker or trigger may or may not get to stop its job.
        self.max_tries = self.try_number + self.retries
        self.job = None


@given(
    st.integers(0, 3),
    st.lists(st.sampled_from(["vanish", "run", "succeed", "fail", "clear", "clear and stop"]), max_size=30),
)
def test_one_live_job_whatever_happens(retries: int, events: list[str]) -> None:
    world = World(retries)
    world.start()
    for event in events:
        assert world.job is not None
        job = world.jobs[world.job]
        if event == "run" and job.status == "PENDING":
            world.set(job.submission_id, "RUNNING")
            continue
        if event == "succeed" and job.status in LIVE:
            # Its worker dies before it has told Airflow.
            world.set(job.submission_id, "SUCCEEDED")
        elif event == "fail" and job.status in LIVE:
            world.set(job.submission_id, "FAILED")
        elif event.startswith("clear"):
            if event.endswith("stop") and job.status in LIVE:
                world.set(job.submission_id, "STOPPED")
            world.clear()
        generation = world.max_tries
        before = len(world.jobs)
        world.start()

        live = [each for each in world.jobs.values() if each.status in LIVE]
        assert len(live) <= 1
        taken = world.jobs[world.job]
        # What was cleared is never taken over.
        assert taken.generation == generation
        if event == "vanish" and job.status in LIVE:
            assert (taken.submission_id, len(world.jobs)) == (job.submission_id, before)
        if event == "succeed" and job.status in LIVE:
            assert taken == job._replace(status="SUCCEEDED")
        if event == "fail" and job.status in LIVE:
            assert taken.status == "PENDING"
        if event.startswith("clear"):
            assert len(world.jobs) == before + 1
