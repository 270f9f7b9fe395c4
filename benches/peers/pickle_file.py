"""Plain pickle, protocol 5, to a file in shared memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from benches.peers.base import FilePeer


class PickleFile(FilePeer):
    label = "pickle to /dev/shm"
    suffix = ".pickle"

    def put(self, value: Any) -> str:
        path = self.path()
        with path.open("wb") as file:
            pickle.dump(value, file, protocol=5)
        return str(path)

    def get(self, handle: str) -> Any:
        with Path(handle).open("rb") as file:
            return pickle.load(file)
