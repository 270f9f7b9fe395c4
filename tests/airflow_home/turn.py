"""One at a time: an Airflow or a Ray that starts while others do may give up before it is up."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def turn() -> Iterator[None]:
    """Wait until no other test on this machine starts something large, and keep the others waiting."""
    # The folder itself is locked, so nothing is left in it; the lock goes with the process, however that ends.
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
