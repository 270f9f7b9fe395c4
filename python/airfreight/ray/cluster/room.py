"""
Room in Ray's store for an object file that is still on its way, which so arrives where it is to stay.

Ray has no way to write an object but from a value that is whole, and copying one takes as long as receiving it. So the
owner makes an object of nothing but zeros, which costs little more than its pages, and the runner writes the file into
Ray's shared memory: Ray maps all of it writable into each process. That is sound because nobody has the reference yet,
and because Ray neither moves nor spills an object that a process has a view of. Should it have spilled the zeros in the
moment before, what it brings back later lacks the file's first bytes, and is lost rather than wrong.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import sys
from typing import TYPE_CHECKING, Any

from . import objectfile
from .problem import Problem

if TYPE_CHECKING:
    from .packed import Packed

#: Ray keeps shorter objects elsewhere than in shared memory.
BYTES_MIN = 1024 * 1024

_WRITABLE = 0x200


class Room:
    """
    What is to become an object file.

    :param view: all of it; zeros, until something has been written to its place.
    """

    def __init__(self, view: Any) -> None:
        self.view = memoryview(view).cast("B")

    @property
    def stream(self) -> Any:
        """As that of a value, for who takes it for one."""
        raise Problem(
            "Lost",
            "Ray has lost a value that was sent to it, since it was short of memory then",
            "clear the task that made the value, and give Ray's object store more memory",
        )

    def value(self) -> Any:
        return self.stream

    def __reduce__(self) -> Any:
        return opened, (pickle.PickleBuffer(self.view),)


def opened(view: Any) -> Packed | Room:
    """Rebuilds the value, once there is one; what is in Ray refers to this function."""
    room = Room(view)
    return objectfile.parse(room.view, sums=False) if room.view[: len(objectfile.MAGIC)] == objectfile.MAGIC else room


def empty(nbytes: int) -> Room:
    """As much room, of pages that take no memory until they are written to."""
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # One page of zeros for each 2 MiB instead of for each 4 KiB, so that Ray's copying is most of the work.
        pages.madvise(mmap.MADV_HUGEPAGE)
    return Room(pages)


def writable(view: memoryview) -> memoryview | None:
    """
    The same memory, to be written to; the caller holds ``view`` for as long.

    :returns: ``None``: that isn't memory which other processes share, or which this one may write to.
    """
    if sys.implementation.name != "cpython":
        return None
    asked = _Buffer()
    api = ctypes.pythonapi
    api.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(asked), 0)
    start = asked.buf
    api.PyBuffer_Release(ctypes.byref(asked))
    if start is None or not _is_shared(start, start + len(view)):
        return None
    make = api.PyMemoryView_FromMemory
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
    made: memoryview = make(start, len(view), _WRITABLE)
    return made


def _is_shared(start: int, end: int) -> bool:
    """Whether all of a piece of memory is one mapping that is shared, and that may be written to."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                span, rights = line.split(" ", 2)[:2]
                first, last = (int(edge, 16) for edge in span.split("-"))
                if first <= start and end <= last:
                    return rights.startswith("rw") and rights.endswith("s")
    except OSError:
        return False
    return False


class _Buffer(ctypes.Structure):
    """CPython's ``Py_buffer``, as every version has it."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]
