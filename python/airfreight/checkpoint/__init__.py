"""
Checkpoints: copies of values in a bucket, which outlive host and cluster.

What the rest of the package needs of them. ``wish`` says which tasks have them, ``place`` where they go,
``credentials`` with whose permission, ``copies`` moves them.
"""

from __future__ import annotations

from airfreight.checkpoint.copies import (
    Reused,
    complete,
    copy_of,
    is_wanted,
    publish,
    purge,
    restore,
    reusable,
    upload,
)
from airfreight.checkpoint.reuse import skip_work, taken
from airfreight.checkpoint.wish import Plan, Wish, parse, plan_of

__all__ = [
    "Plan",
    "Reused",
    "Wish",
    "complete",
    "copy_of",
    "is_wanted",
    "parse",
    "plan_of",
    "publish",
    "purge",
    "restore",
    "reusable",
    "skip_work",
    "taken",
    "upload",
]
