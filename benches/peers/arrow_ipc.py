"""Arrow IPC to a file in shared memory, read by mapping it: tensors for arrays, tables for frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benches.peers.base import FilePeer

if TYPE_CHECKING:
    from benches.values import Case


class ArrowIpc(FilePeer):
    label = "Arrow IPC, mapped"
    suffix = ".arrow"
    client = ("pyarrow.ipc",)

    @classmethod
    def applies(cls, case: Case) -> bool:
        return case.kind == "array" or case.is_frame

    def put(self, value: Any) -> str:
        import numpy as np
        import pyarrow as pa

        path = str(self.path())
        with pa.OSFile(path, "wb") as file:
            if isinstance(value, np.ndarray):
                pa.ipc.write_tensor(pa.Tensor.from_numpy(value), file)
            else:
                table = pa.Table.from_pandas(value)
                with pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
        return path

    def get(self, handle: str) -> Any:
        import pyarrow as pa

        file = pa.memory_map(handle)
        if file.read(6) == b"ARROW1":
            return pa.ipc.open_file(file).read_all().to_pandas()
        file.seek(0)
        return pa.ipc.read_tensor(file).to_numpy()
