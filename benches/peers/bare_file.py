"""The least that a small value costs in a file of its own: create, write, publish by renaming; open, read."""

from __future__ import annotations

import os
import pickle
from typing import Any

from benches.peers.base import FilePeer
from benches.values import Case


class BareFile(FilePeer):
    label = "a bare file, by system calls"
    suffix = ".pickle"

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "dict"

    def put(self, value: Any) -> str:
        path = str(self.path())
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        os.write(descriptor, pickle.dumps(value, protocol=5))
        os.close(descriptor)
        os.rename(f"{path}.new", path)  # noqa: PTH104  the system call alone is what counts
        return path

    def get(self, handle: str) -> Any:
        descriptor = os.open(handle, os.O_RDONLY | os.O_NOFOLLOW)
        data = os.read(descriptor, 65_536)
        os.close(descriptor)
        return pickle.loads(data)
