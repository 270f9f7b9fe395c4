"""What can go wrong, as exceptions: one class per kind, each with a hint that says what to try."""

from __future__ import annotations


class AirfreightError(Exception):
    """
    The base of every error that Airfreight raises.

    :param message: what failed, on which thing, and why.
    :param hint: what to try; shown after the message.
    """

    #: The kind's name, the same in Rust, Python, logs and metrics.
    kind = "Internal"

    def __init__(self, message: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ObjectNotFoundError(AirfreightError, LookupError):
    """Nothing has this name; waiting will not help."""

    kind = "NotFound"

    __str__ = AirfreightError.__str__


class ObjectLostError(AirfreightError, LookupError):
    """It existed and every copy is gone: rerun the task that made it."""

    kind = "Lost"

    __str__ = AirfreightError.__str__


class StoreFullError(AirfreightError, MemoryError):
    """No room in any tier: release what is held or add capacity, then retry."""

    kind = "Full"


class UnavailableError(AirfreightError, ConnectionError):
    """A peer or service did not answer: retry with backoff."""

    kind = "Unavailable"

    __str__ = AirfreightError.__str__


class OutOfReachError(UnavailableError):
    """A value is too large for every way to a cluster that can be reached: open another one."""


class DeniedError(AirfreightError, PermissionError):
    """Credentials or permissions: a retry cannot succeed."""

    kind = "Denied"

    __str__ = AirfreightError.__str__


class InvalidError(AirfreightError, ValueError):
    """The request is wrong: a retry cannot succeed."""

    kind = "Invalid"


class CorruptError(AirfreightError, ValueError):
    """Bytes do not match their checksum: that copy is dropped, another may exist."""

    kind = "Corrupt"


class ConflictError(AirfreightError):
    """Someone else created or holds it: read again, then decide."""

    kind = "Conflict"


class InternalError(AirfreightError, RuntimeError):
    """A broken invariant: a bug in Airfreight."""

    kind = "Internal"
