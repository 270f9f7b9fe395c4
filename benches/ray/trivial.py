"""The function whose way to a cluster and back is measured."""

from __future__ import annotations


def answer() -> int:
    return 40 + 2
