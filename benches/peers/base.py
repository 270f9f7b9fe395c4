"""What every way of passing a value has in common, so that all are measured by the same code."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benches.values import Case


class Peer(ABC):
    """
    A way of passing a value from one process to another.

    Class members are used by the driver, instances live in the processes that put and get.

    :param place: where it works: a folder, a socket or an address, as :meth:`serve` yielded it.
    """

    label: ClassVar[str]
    #: The virtual environment it runs in.
    venv: ClassVar[str] = ".venv"
    #: Distributions to install there, if it is an environment of the benchmark's own. ``==*`` takes ours.
    requires: ClassVar[tuple[str, ...]] = ()
    #: The Python that it needs, if not the one that Airfreight runs on.
    python: ClassVar[str | None] = None
    #: Imported before a process is forked: what an Airflow worker has, where the environment has an Airflow.
    preload: ClassVar[tuple[str, ...]] = ("airflow.sdk",)
    #: The peer's own modules, imported by each new process on a clock of their own.
    client: ClassVar[tuple[str, ...]] = ()
    #: A limit of the machine rather than a store: nothing can be got from it.
    is_limit: ClassVar[bool] = False
    #: Starts from an empty place in every round; otherwise whatever earlier rounds left warm stays warm.
    is_new_each_round: ClassVar[bool] = False
    #: The free memory that it uses first has been used by others a moment before.
    finds_memory_ready: ClassVar[bool] = True
    #: Puts a value where a deleted one was.
    keeps_memory: ClassVar[bool] = False
    #: Means the same the second time in one process, so it can be measured in a warm one too.
    is_repeatable: ClassVar[bool] = True

    def __init__(self, place: str) -> None:
        self.place = place

    @classmethod
    @contextmanager
    def serve(cls, scratch: Path, python: Path) -> Iterator[str]:
        """Starts what has to run, yields the place, stops it again."""
        yield str(scratch)

    @classmethod
    def environment(cls, place: str) -> dict[str, str]:
        """Variables of the processes that put and get."""
        return {}

    def hot_put(self, value: Any) -> Any:
        """A small value in a hot loop; its handle."""
        return self.put(value)

    def hot_get(self, handle: Any) -> Any:
        return self.get(handle)

    @classmethod
    def applies(cls, case: Case) -> bool:
        return True

    def prepare(self, value: Any) -> None:  # noqa: B027
        """What a limit needs to have ready before the clock starts."""

    def connect(self) -> None:  # noqa: B027
        """What a new process must do before it can put or get."""

    @abstractmethod
    def put(self, value: Any) -> str:
        """Passes the value on; the string is what another process needs in order to get it."""

    def get(self, handle: str) -> Any:
        raise NotImplementedError

    def delete(self, handle: str) -> None:
        raise NotImplementedError

    def delete_all(self, handles: list[str]) -> None:
        for handle in handles:
            self.delete(handle)

    def close(self) -> None:  # noqa: B027
        """Leaves in good order."""

    def used_bytes(self) -> int | None:
        """What the store takes now, in memory of any kind outside the two processes."""
        return folder_bytes(Path(self.place))


class FilePeer(Peer):
    """A new file in shared memory for every value."""

    suffix: ClassVar[str]

    def path(self) -> Path:
        return Path(self.place) / f"{os.urandom(8).hex()}{self.suffix}"

    def delete(self, handle: str) -> None:
        Path(handle).unlink()


def folder_bytes(folder: Path) -> int:
    """What the files below a folder really take, holes left out and links counted once."""
    blocks: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            entry = (Path(parent) / name).lstat()
            blocks[entry.st_dev, entry.st_ino] = entry.st_blocks * 512
    return sum(blocks.values())
