"""Goal: what the trigger tells of a cluster. Method: the trigger on an event loop of its own, as Airflow makes it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airfreight.hooks.ray import RayHook
from airfreight.ray import kubernetes
from airfreight.triggers.ray import RayClusterTrigger
from ray_home.kube_server import description

if TYPE_CHECKING:
    from ray_home.kube_server import KubeServer


def trigger(script: str, *, is_ours: bool = True, seconds: float = 60) -> RayClusterTrigger:
    """One that waits for a cluster which has just been made."""
    cluster = kubernetes.apply(RayHook().connection, description(script=script), update=False)
    fields = {**cluster.plain(), "is_ours": is_ours}
    path, arguments = RayClusterTrigger("ray_default", fields, time.time() + seconds).serialize()
    assert path == "airfreight.triggers.ray.RayClusterTrigger"
    return RayClusterTrigger(**json.loads(json.dumps(arguments)))


def end_of(made: RayClusterTrigger) -> dict[str, Any]:
    async def events() -> list[Any]:
        return [event.payload async for event in made.run()]

    (payload,) = asyncio.run(events())
    found: dict[str, Any] = json.loads(json.dumps(payload))
    return found


def test_it_fires_when_the_cluster_serves(kube: KubeServer) -> None:
    made = trigger("recovers")
    assert end_of(made) == {"status": "READY", "job_id": "", "cluster": made.cluster}


@pytest.mark.parametrize(("script", "why"), [("quota", "exceeded quota"), ("unschedulable", "Insufficient cpu")])
def test_it_fires_with_the_reason(script: str, why: str, kube: KubeServer) -> None:
    end = end_of(trigger(script, seconds=1))
    assert (end["status"], end["kind"]) == ("EXCEPTION", "Unavailable")
    assert why in end["message"]
    # The worker deletes it, which is told of the failure.
    assert kube.names() == ["demo"]


@pytest.mark.parametrize(("is_ours", "left"), [(True, []), (False, ["demo"])])
def test_a_kill_deletes_what_is_the_tasks_own(is_ours: bool, left: list[str], kube: KubeServer) -> None:
    asyncio.run(trigger("unschedulable", is_ours=is_ours)._abandon("the task was killed"))
    assert kube.names() == left
