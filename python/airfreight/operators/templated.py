"""Arguments of operators that a template may have made text of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping


def mapping(name: str, value: Any) -> dict[str, Any] | None:
    """A dict, or the JSON that a template has made of it."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            raise InvalidError(f"{name} is neither a dict nor a JSON object: {text[:80]!r}") from None
    if value is not None and not isinstance(value, dict):
        raise InvalidError(f"{name} is neither a dict nor a JSON object: {value!r:.80}")
    return value


def number(name: str, value: Any, defaults: Mapping[str, Any]) -> float | None:
    """A number, or the text that a template has made of it."""
    if value is None or (isinstance(value, str) and not value.strip()):
        value = defaults.get(name)
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidError(f"{name}={value!r:.80} is not a number") from None
