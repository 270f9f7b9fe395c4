"""
Whether a call has crashed its process.

Ray runs a task again when its process has died (``max_retries``), without which it would not make a lost value anew.
But a function that has crashed its process must not be run again: it may have done half of something. So each call
leaves a mark on its node while it runs. An attempt that finds one knows what has happened. When the node itself is
lost, its mark is lost with it, and the function is run again; so it is when a value that was finished is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Iterator

from . import place

if TYPE_CHECKING:
    Record = dict[str, Any]

# How long the other nodes are given to say whether they have a mark.
_ASK_SECONDS = 60.0


@contextlib.contextmanager
def mark(call_id: str) -> Iterator[None]:
    """Marks that a call runs here, for as long as it does."""
    path = _path(call_id)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(_here(), file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def before(call_id: str) -> Record | None:
    """What an attempt before this one has left, if it has crashed."""
    if not _attempt():
        return None
    found = look(call_id) or _ask_others(call_id)
    if found is not None:
        found.update(_death(found))
    return found


def look(call_id: str) -> Record | None:
    """The mark of a call on this node."""
    try:
        with open(_path(call_id), encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return None
    try:
        found: Record = json.loads(text)
    except ValueError:
        # It had no time to write it.
        return {**_here(), "pid": None, "worker_id": None}
    return found


def _path(call_id: str) -> str:
    return os.path.join(place.scratch("running"), call_id)


def _here() -> Record:
    import ray

    worker = ray._private.worker.global_worker
    return {
        "pid": os.getpid(),
        "worker_id": worker.worker_id.hex(),
        "node_id": place.node_id(),
        "start_time": int(time.time() * 1000),
    }


def _attempt() -> int:
    """How many attempts of this task there were before."""
    import ray

    core = ray._private.worker.global_worker.core_worker
    # An older Ray can't tell: there, the mark is looked for each time.
    count = getattr(core, "get_current_task_attempt_number", None)
    return 1 if count is None else int(count())


def _ask_others(call_id: str) -> Record | None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(look)
    others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != place.node_id()]
    asked = [
        ask.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(call_id)
        for node in others
    ]
    ready, _ = ray.wait(asked, num_returns=len(asked), timeout=_ASK_SECONDS) if asked else ([], [])
    for answer in ready:
        # A node that has been lost meanwhile has no mark any more.
        with contextlib.suppress(Exception):
            found: Record | None = ray.get(answer)
            if found is not None:
                return found
    return None


def _death(found: Record) -> Record:
    """What Ray knows of the end of a process."""
    if found.get("worker_id"):
        # An older Ray may keep this elsewhere; then the crash is told without its reason.
        with contextlib.suppress(Exception):
            import ray
            from ray.core.generated import common_pb2, gcs_pb2

            state = ray._private.state.state
            for entry in state._connect_and_get_accessor().get_worker_table():
                worker = gcs_pb2.WorkerTableData.FromString(entry)
                if worker.worker_address.worker_id.hex() == found["worker_id"] and not worker.is_alive:
                    kind = common_pb2.WorkerExitType.Name(worker.exit_type)
                    return {"exit_type": kind, "exit_detail": worker.exit_detail}
    return {}
