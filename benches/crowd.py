"""A process with many triggers in one event loop: what it tells, and how it is told to go on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess


def log_as_a_triggerer() -> None:
    """In JSON, but to nowhere rather than to the supervisor."""
    from airflow.sdk.log import configure_logging

    nowhere = Path(os.devnull).open("wb")  # noqa: SIM115 - open to the end
    configure_logging(json_output=True, output=nowhere, sending_to_supervisor=True)


def report(name: str, **values: Any) -> None:
    """Tell the process that measures."""
    # One write, so that no line of a library gets in between.
    sys.stdout.write("\n" + json.dumps({"report": name, **values}) + "\n")
    sys.stdout.flush()


def told(program: subprocess.Popen[str], name: str, *, go_on: bool) -> dict[str, Any]:
    """
    What the crowd reports under a name.

    :param go_on: whether to let it go on first.
    :raises RuntimeError: it has ended.
    """
    assert program.stdin is not None
    assert program.stdout is not None
    if go_on:
        program.stdin.write("go on\n")
        program.stdin.flush()
    for line in program.stdout:
        # Libraries may print, too.
        if line.startswith('{"report"'):
            found: dict[str, Any] = json.loads(line)
            assert found.pop("report") == name
            return found
    raise RuntimeError(f"the process has ended, with {program.wait()}, before it said {name!r}")
