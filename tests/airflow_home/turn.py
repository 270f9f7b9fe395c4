"""One at a time: an Airflow or a Ray that starts while others do may give up before it is up."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def turn() -> Iterator[None]:
    """Wait until no other test of this user's starts something large, and keep the others waiting."""
    with Path(tempfile.gettempdir(), f"airfreight-turn-{os.getuid()}").open("w") as file:
        # Goes with the process, however it ends.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
