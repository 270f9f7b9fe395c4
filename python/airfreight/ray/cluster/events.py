"""What has changed in the calls of all owners: numbered, in memory and in a file for who has the dashboard alone."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Record = dict[str, Any]

_KEPT = 10_000
_KEPT_BYTES = 32 * 1024 * 1024
_FILE_BYTES_MAX = 1024 * 1024


class Events:
    """
    The last events.

    :param epoch: of which numbering they are: another after each start of the runner.
    :param path: a file that gets one line for each.
    """

    def __init__(self, epoch: str, path: str) -> None:
        self.epoch = epoch
        self._changed = threading.Condition()
        self._kept: deque[tuple[Record, int]] = deque()
        self._kept_bytes = 0
        self._seq = 0
        self._path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the process

    def add(self, states: list[Record]) -> None:
        if not states:
            return
        with self._changed:
            lines = []
            for state in states:
                self._seq += 1
                event = {"epoch": self.epoch, "seq": self._seq, **state}
                line = json.dumps(event).encode("utf-8", "surrogatepass") + b"\n"
                self._kept.append((event, len(line)))
                self._kept_bytes += len(line)
                while len(self._kept) > _KEPT or self._kept_bytes > _KEPT_BYTES:
                    self._kept_bytes -= self._kept.popleft()[1]
                lines.append(line)
            self._file.write(b"".join(lines))
            if self._file.tell() > _FILE_BYTES_MAX:
                self._file.close()
                os.replace(self._path, f"{self._path}.1")
                self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
            self._changed.notify_all()

    def since(self, epoch: str, seq: int, wait: float) -> Record:
        """
        What has come since.

        :param epoch: the numbering of ``seq``; none asks for where it stands.
        :returns: ``epoch``, ``seq``, ``lost``: there were more than are kept, or the numbering is another; ``events``.
        """
        with self._changed:
            if not epoch:
                return {"epoch": self.epoch, "seq": self._seq, "lost": False, "events": []}
            lost = epoch != self.epoch or seq > self._seq
            if lost:
                seq = self._seq
            elif self._seq <= seq:
                self._changed.wait_for(lambda: self._seq > seq, wait)
            first = self._seq - len(self._kept) + 1
            if seq + 1 < first:
                lost = True
            found = [event for event, _ in itertools.islice(self._kept, max(seq + 1 - first, 0), None)]
            return {"epoch": self.epoch, "seq": self._seq, "lost": lost, "events": found}
