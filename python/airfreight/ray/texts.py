"""
What the codec asks of the compiled module, in Python: a cluster has none of Airfreight's binaries.

This file is shipped as ``airfreight._store`` for the codec that comes along with the driver. The form is that of
docs/design/codec.md, "Packed strings".
"""

from __future__ import annotations

from array import array as numbers_of
from sys import byteorder
from typing import Any

# The first number that is no length: it stands for the first of the others, the next for the second, and so on.
_OTHER = 2**32 - 255


def pack_texts(array: Any, types: Any) -> None:
    """Leaves strings to the form that needs no compiled module."""


def fill_texts(array: Any, lengths: Any, text: Any, others: Any) -> None:
    """Puts strings back into an array of that length."""
    numbers = numbers_of("I")
    numbers.frombytes(memoryview(lengths).cast("B"))
    if byteorder == "big":
        numbers.byteswap()
    view = memoryview(text).cast("B")
    if len(numbers) != len(array) or sum(number for number in numbers if number < _OTHER) != len(view):
        raise ValueError("packed strings don't fit their lengths")
    start = 0
    for index, number in enumerate(numbers):
        if number < _OTHER:
            array[index] = str(view[start : start + number], "utf-8")
            start += number
        else:
            array[index] = others[number - _OTHER]
