"""What can go wrong with the Airflow under test; every message carries the log that explains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TAIL_LINES = 25


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Give the last lines of a log, indented, for the end of an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"    ({error})"
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty)"


class AirflowHomeError(Exception):
    """The base of every fault of the harness."""


class ComponentDiedError(AirflowHomeError):
    """A component of Airflow ended although nobody stopped it."""

    def __init__(self, name: str, ended: str, log: Path) -> None:
        super().__init__(f"airflow {name} {ended}; the end of {log}:\n{tail(log)}")
        self.name = name
        self.log = log


class WaitTimeoutError(AirflowHomeError):
    """Something that was waited for did not happen in time."""


class DagBrokenError(AirflowHomeError):
    """Airflow could not import a DAG file."""


class RunFailedError(AirflowHomeError):
    """A DAG run ended in another state than the expected one."""


class ApiError(AirflowHomeError):
    """Airflow's API refused a request."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path} answered {status}: {body[:2000]}")
        self.status = status
        self.body = body
