"""What a job of the examples runs: one remote task."""

from __future__ import annotations

import sys

import ray


@ray.remote
def hello(name: str) -> str:
    return f"Hello {name}"


ray.init()
print(ray.get(hello.remote(*sys.argv[1:])))
