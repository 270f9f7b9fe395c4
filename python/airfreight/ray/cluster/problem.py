"""What is answered when a request can't be met."""

from __future__ import annotations

from typing import Any, Dict

#: The status of each kind; the kinds are those of every error of Airfreight's.
_STATUS = {
    "Invalid": 400,
    "Corrupt": 400,
    "Denied": 401,
    "NotFound": 404,
    "Conflict": 409,
    "Lost": 410,
    "Full": 413,
    "Unavailable": 503,
    "Internal": 500,
}


class Problem(Exception):
    """
    A request is refused.

    :param kind: what the caller should do next.
    :param message: what failed, on which thing.
    :param hint: what to try.
    """

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint

    def __reduce__(self) -> Any:
        return Problem, (self.kind, self.message, self.hint)

    @property
    def status(self) -> int:
        return _STATUS.get(self.kind, 500)

    def body(self) -> Dict[str, Any]:
        return {"error": {"kind": self.kind, "message": self.message, "hint": self.hint}}
