"""A bounded description of a value: for the UI, the command line and the API, which never unpickle anything."""

from __future__ import annotations

from typing import Any

from airfreight.codec.refusal import type_name


def describe(value: Any) -> tuple[str, dict[str, Any]]:
    """
    Describes a value.

    :returns: its type's name and a preview, at most 2 KiB as JSON.
    """
    return type_name(value), {}
