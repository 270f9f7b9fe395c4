"""``np.save`` to a file in shared memory, ``np.load`` by mapping it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches.peers.base import FilePeer

if TYPE_CHECKING:
    from benches.values import Case


class NumpySave(FilePeer):
    label = "np.save, mapped"
    suffix = ".npy"

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "array"

    def put(self, value: Any) -> str:
        import numpy as np

        path = self.path()
        np.save(path, value)
        return str(path)

    def get(self, handle: str) -> Any:
        import numpy as np

        return np.load(handle, mmap_mode="r")
