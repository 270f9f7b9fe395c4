"""
Reading one element of a stored list while Airflow expands a mapped task over it.

Each mapped task resolves the whole list and takes one element. Where Airflow does just that, and nowhere else, a
sequence stands in for the list that reads an element when it is asked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload


class StoredSequence(Sequence[Any]):
    """
    A list in the store of which single elements are read.

    Neither a list nor iterated by ``repr``: Airflow prints and walks what it passes to a task.
    """

    __slots__ = ("_length", "_read")

    def __init__(self, length: int, read: Callable[[int], Any]) -> None:
        self._length = length
        self._read = read

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._read(each) for each in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"element {index} of {self._length}")
        return self._read(index % self._length)

    def __repr__(self) -> str:
        return f"<{self._length} elements in the store>"
