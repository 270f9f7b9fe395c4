"""
``python -m airfreight.checkpoint.access connection@url``: a bucket and its credentials, for this host's agent.

The agent runs this when a task has left it a checkpoint that goes to a connection's bucket, and keeps the answer in
memory. It goes through a pipe, so nothing of it is written down and no argument shows it.
"""

from __future__ import annotations

import json
import sys

from airfreight.checkpoint import place
from airfreight.errors import AirfreightError


def main(arguments: list[str]) -> int:
    """Write one line of JSON; on failure, why, on standard error."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m airfreight.checkpoint.access connection@url\n")
        return 2
    try:
        access = place.access(*place.split(arguments[0]))
    except AirfreightError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - Airflow's own, of which there are many
        sys.stderr.write(f"error: {type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(f"\n{json.dumps(access._asdict())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
