"""
NumPy: arrays that refuse to export their memory, that are not contiguous, or that hold Python objects.

This module is loaded before NumPy is, so that no task has to load it. Most arrays don't need the one of strings.
"""

from __future__ import annotations

import math
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Kinds whose contiguous arrays NumPy itself sends out of band.
_EXPORTED = frozenset("biufcSU?")

# Kinds that a dtype's string says all of.
_SPELLED = frozenset("biufcSUmM?")

# Of these its character says all, where the byte order is the machine's own; NumPy needs no parser for it.
_LETTERED = frozenset("biufc?")

# Below this many elements an object array is left to the pickler, which shares equal pointers.
_PACKED_LENGTH_MIN = 1024


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    import numpy as np

    if cls is np.ndarray:
        return reduce_array
    # By name: to ask for `np.ma` or `np.char` may load it.
    if cls.__name__ == "MaskedArray":
        return reduce_masked
    if cls in (np.recarray, np.memmap, np.matrix) or cls.__name__ == "chararray":
        return reduce_subclass
    return None


def reduce_array(array: Any) -> Any:
    """Reduces a plain array; its memory goes out of band whatever the dtype and the strides."""
    dtype = array.dtype
    kind = dtype.kind
    flags = array.flags
    if kind in _SPELLED and dtype.metadata is None and array.ndim and array.nbytes and dtype.itemsize:
        if flags.c_contiguous:
            return _view(array, array, "C")
        if flags.f_contiguous:
            return _view(array, array.T, "F")
    if kind in _EXPORTED and (flags.c_contiguous or flags.f_contiguous):
        return array.__reduce_ex__(5)
    if kind == "O":
        return _reduce_objects(array)
    if kind == "T":
        return _reduce_strings(array)
    if kind in "mM" and array.size == 0:
        # NumPy's own pickle forgets the byte order of dates.
        return _rebuild_empty, (dtype, array.shape)
    if dtype.hasobject or dtype.itemsize == 0 or array.size == 0:
        return array.__reduce_ex__(5)
    return _rebuild, (*_memory(array), None, None)


def _view(array: Any, dense: Any, order: str) -> Any:
    """
    Reduces an array to a call of its class, which borrows the buffer.

    NumPy's own way makes the dtype anew, a flat array and another one of that, and is twice as long on it: of a process
    that was just forked, it touches half as many pages again.
    """
    import numpy as np

    # As bytes: dates don't export a typed buffer.
    dtype = array.dtype
    memory = PickleBuffer(dense if dtype.kind in _EXPORTED else dense.reshape(-1).view(np.uint8))
    spelling = dtype.char if dtype.kind in _LETTERED and dtype.isnative else dtype.str
    return type(array), (array.shape, spelling, memory, 0, None, order)


def _memory(array: Any) -> tuple[PickleBuffer, Any, tuple[int, ...], tuple[int, ...] | None]:
    """
    The bytes of an array, copied only when it has gaps, and what it takes to make it of them again.

    :returns: the bytes, the dtype, the shape as it lies in memory, and how to transpose that; ``None`` for not at all.
    """
    import numpy as np

    axes = None
    dtype = array.dtype
    array = array.view(np.ndarray)
    if not array.flags.c_contiguous:
        by_stride = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        dense = array.transpose(by_stride)
        if dense.flags.c_contiguous:
            axes = tuple(by_stride.index(axis) for axis in range(array.ndim))
            array = dense
        else:
            array = np.ascontiguousarray(array)
    # As bytes: dates and records that hold them don't export a typed buffer.
    return PickleBuffer(array.reshape(-1).view(np.uint8)), dtype, array.shape, axes


def _rebuild(
    buffer: Any,
    dtype: Any,
    shape: tuple[int, ...],
    axes: tuple[int, ...] | None,
    cls: type | None,
    attributes: dict[str, Any] | None,
) -> Any:
    """Makes an array of borrowed memory. Part of the object format."""
    import numpy as np

    array = np.frombuffer(buffer, dtype=np.uint8).view(dtype).reshape(shape)
    if axes is not None:
        array = array.transpose(axes)
    if cls is not None:
        array = array.view(cls)
    if attributes:
        array.__dict__.update(attributes)
    return array


def _rebuild_empty(dtype: Any, shape: tuple[int, ...]) -> Any:
    """Part of the object format."""
    import numpy as np

    return np.empty(shape, dtype)


def reduce_subclass(array: Any) -> Any:
    """Reduces NumPy's own subclasses."""
    import numpy as np

    if array.dtype.hasobject or array.dtype.itemsize == 0 or array.size == 0:
        return array.__reduce_ex__(5)
    # A memmap's attributes tell where its file was; what comes back is in memory, as from pickle.
    attributes = None if type(array) is np.memmap else dict(array.__dict__)
    return _rebuild, (*_memory(array), type(array), attributes)


def reduce_masked(array: Any) -> Any:
    """Reduces a masked array as its data and its mask; a mask that isn't there stays so."""
    import numpy as np

    if array._baseclass is not np.ndarray or array._optinfo or array._basedict:
        return array.__reduce_ex__(5)
    return _rebuild_masked, (array._data, array._mask, array._fill_value, array._hardmask)


def _rebuild_masked(data: Any, mask: Any, fill_value: Any, hard: bool) -> Any:
    import numpy as np

    array = data.view(np.ma.MaskedArray)
    array._mask = np.ma.nomask if mask is False or mask is np.False_ else mask
    array._sharedmask = False
    array._hardmask = hard
    array._fill_value = fill_value
    return array


def _reduce_objects(array: Any) -> Any:
    """
    Reduces an array of Python objects; runs of strings are packed, which spares the pickler's memo.

    The rest is state rather than an argument, so that an array that holds itself comes back as one.
    """
    import numpy as np

    from airfreight.codec.reducers.strings import pack, texts

    if array.size < _PACKED_LENGTH_MIN:
        return array.__reduce_ex__(5)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    flat = array.T if fortran else array
    # A block of a data frame: a row here is one column there, and columns differ.
    by_row = flat.ndim == 2 and flat.shape[1] >= _PACKED_LENGTH_MIN
    runs = [np.ascontiguousarray(run) for run in (flat if by_row else [flat.reshape(-1)])]
    parts = [texts(run) or pack(run) or run.tolist() for run in runs]
    if all(type(part) is list for part in parts):
        return array.__reduce_ex__(5)
    if all(_is_texts(part) for part in parts):
        return _rebuild_runs, (array.shape, fortran, parts)
    return _empty_objects, (), (array.shape, fortran, parts), None, None, _fill_runs


def _is_texts(part: Any) -> bool:
    return type(part) is tuple and len(part) == 3


def _rebuild_texts(arrow: list[Any], shape: tuple[int, ...], fortran: bool) -> Any:
    """Part of the object format; written before strings had a form of their own."""
    import numpy as np

    runs = [part.to_numpy(zero_copy_only=False) for part in arrow]
    array = runs[0] if len(runs) == 1 else np.concatenate(runs)
    if not array.flags.writeable:
        array = array.copy()
    return array.reshape(shape, order="F" if fortran else "C")


def _empty_objects() -> Any:
    import numpy as np

    return np.empty(0, dtype=object)


def _rebuild_runs(shape: tuple[int, ...], fortran: bool, parts: list[Any]) -> Any:
    """Part of the object format."""
    import numpy as np

    array = np.empty(shape, dtype=object, order="F" if fortran else "C")
    _put_runs(array.T if fortran else array, parts)
    return array


def _fill_runs(array: Any, state: tuple[tuple[int, ...], bool, list[Any]]) -> None:
    """Part of the object format."""
    shape, fortran, parts = state
    # In place: others may refer to the array already.
    array.__setstate__((1, shape, array.dtype, fortran, [None] * math.prod(shape)))
    _put_runs(array.T if fortran else array, parts)


def _fill_objects(array: Any, state: tuple[tuple[int, ...], bool, list[Any]]) -> None:
    """Part of the object format: written before strings had a form of their own."""
    _fill_runs(array, state)


def _put_runs(array: Any, parts: list[Any]) -> None:
    from airfreight.codec.reducers.strings import fill, unpack

    flat = array.reshape(-1)
    length = flat.size // len(parts)
    for number, part in enumerate(parts):
        run = flat[number * length : (number + 1) * length]
        if _is_texts(part):
            fill(run, part)
        else:
            elements = part if type(part) is list else [element for some in unpack(part) for element in some]
            _put_objects(run, elements)


def _put_objects(run: Any, elements: list[Any]) -> None:
    objects = _empty_objects()
    # An assignment would look into elements that are sequences.
    objects.__setstate__((1, (len(elements),), objects.dtype, False, elements))
    run[:] = objects


def _reduce_strings(array: Any) -> Any:
    """Reduces an array of variable-width strings, which NumPy hands out one Python string at a time."""
    from airfreight.codec.reducers.strings import pack

    elements = array.reshape(-1).tolist()
    return _rebuild_strings, (pack(elements) or elements, array.dtype, array.shape)


def _rebuild_strings(elements: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import numpy as np

    from airfreight.codec.reducers.strings import unpack

    if type(elements) is not list:
        elements = [element for part in unpack(elements) for element in part]
    return np.array(elements, dtype=dtype).reshape(shape)
