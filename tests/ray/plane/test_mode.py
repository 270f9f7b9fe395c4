"""How a function runs where task, connection, settings and cluster have something to say about it."""

from __future__ import annotations

from typing import Any

import pytest

from airfreight.errors import InvalidError, UnavailableError
from airfreight.ray import warm

READY = {"ray": "2.60.0", "python": "3.12.1", "transport": "port"}


def choice(name: str, hindrance: str | None = None, error: Exception | None = None) -> tuple[bool, str]:
    """Whether a runner makes the call, and what the log says."""
    said: list[str] = []

    def start() -> dict[str, Any]:
        if error is not None:
            raise error
        return READY

    chosen = warm.choose(
        warm.Mode(name, f"somebody says {name}"),
        hindrance,
        "train",
        start,
        lambda text, *rest: said.append(text % rest),
    )
    (line,) = said
    return chosen, line


@pytest.mark.parametrize(
    ("task", "connection", "setting", "name", "said_by"),
    [
        ("warm", "cold", "auto", "warm", "the task says mode='warm'"),
        (None, "cold", "auto", "cold", "connection ray_default says mode = cold"),
        (None, None, "auto", "auto", "[airfreight] ray_mode is auto"),
    ],
)
def test_the_nearest_counts(task: str | None, connection: str | None, setting: str, name: str, said_by: str) -> None:
    assert warm.mode(task, connection, "ray_default", setting) == (name, said_by)


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidError, match="mode='hot' is none of auto, warm, cold"):
        warm.mode("hot", None, "ray_default", "auto")


@pytest.mark.parametrize("name", ["auto", "warm"])
def test_a_runner_makes_the_call_where_one_answers(name: str) -> None:
    chosen, line = choice(name)
    assert chosen
    assert line.startswith("running train warm, by the cluster's runner (Ray 2.60.0, Python 3.12.1, through its own")
    assert line.endswith(f": somebody says {name}")


def test_cold_asks_for_no_runner() -> None:
    assert choice("cold", error=AssertionError("asked")) == (
        False,
        "running train cold, as a Ray job of its own: somebody says cold",
    )


def test_without_a_runner_auto_is_cold_and_warm_fails() -> None:
    error = UnavailableError("no runner answers")
    assert choice("auto", error=error) == (
        False,
        "running train cold, as a Ray job of its own, because no runner can start: no runner answers",
    )
    with pytest.raises(UnavailableError):
        choice("warm", error=error)


@pytest.mark.parametrize(
    ("environment", "entrypoint", "why"),
    [
        ({"conda": "env"}, "", "its runtime environment has conda"),
        ({"py_executable": "uv run", "pip": ["x"]}, "", "its runtime environment has py_executable"),
        ({}, "python train.py", "it has an entrypoint in place of its function"),
    ],
)
def test_what_only_a_job_can_do_is_cold_or_refused(environment: dict[str, Any], entrypoint: str, why: str) -> None:
    hindrance = warm.obstacle(environment, entrypoint)
    assert hindrance == why
    assert choice("auto", hindrance) == (
        False,
        f"running train cold, as a Ray job of its own: {why} (somebody says auto)",
    )
    with pytest.raises(InvalidError, match="train can't run warm"):
        choice("warm", hindrance)


def test_an_ordinary_environment_is_no_hindrance() -> None:
    assert warm.obstacle({"pip": ["pandas"], "env_vars": {"A": "b"}, "working_dir": "."}, "") is None
