"""Where a process of the cluster is: its node, and the folders there that Ray shows and that it doesn't."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

#: Where all actors of Airfreight's have their names.
NAMESPACE = "airfreight"


@lru_cache(maxsize=None)
def logs() -> str:
    """The node's log folder, whose files the dashboard serves."""
    return str(_node().get_logs_dir_path())


@lru_cache(maxsize=None)
def scratch(name: str) -> str:
    """A folder of Airfreight's on this node that the dashboard doesn't show; it goes with the cluster's session."""
    folder = os.path.join(str(_node().get_session_dir_path()), "airfreight", name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def free_memory() -> int:
    """How many bytes of memory this node has for more; 0 if that can't be told."""
    try:
        from ray._private.utils import estimate_available_memory

        # Ray knows the container's limit, and the kernel what of the shared memory is in use.
        with open("/proc/meminfo", encoding="ascii") as file:
            facts = dict(line.split(":", 1) for line in file)
        return min(int(estimate_available_memory()), int(facts["MemAvailable"].split()[0]) * 1024)
    except (ImportError, OSError, KeyError, ValueError):
        return 0


@lru_cache(maxsize=None)
def node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def on_head(part: float) -> dict[str, float]:
    """The custom resource that only the head has; what is there lives as long as the cluster."""
    return {"node:__internal_head__": part}


def at_head(function: Any) -> Any:
    """A remote function that gives word of its value and the value, made on the head, once, and of no CPU."""
    return function.options(num_cpus=0, max_retries=0, num_returns=2, resources=on_head(0.0001))


def publish(path: str, content: Any) -> None:
    """Writes a file of JSON, which readers see whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = f"{path}.{os.getpid()}.draft"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(draft, path)


def _node() -> Any:
    import ray

    return ray._private.worker._global_node
