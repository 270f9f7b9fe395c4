"""NumPy arrays, scalars and dtypes without Python objects in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from airfreight.codec.reducers.numpy import _memory, _rebuild
from airfreight.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.codec.plain.reader import Reader
    from airfreight.codec.plain.writer import Encoder


def encoder_for(cls: type) -> Callable[[Encoder, Any, str], Any] | None:
    if cls is np.ndarray:
        return _array
    if issubclass(cls, np.generic):
        return _scalar
    if issubclass(cls, np.dtype):
        return _dtype
    return None


def describe_dtype(encoder: Encoder, dtype: Any, value: Any, path: str) -> Any:
    """A dtype as JSON, as the header of an ``.npy`` file has it."""
    if dtype.hasobject or dtype.kind == "T":
        raise encoder.refuse(value, path, f"its dtype is {dtype}")
    described = np.lib.format.dtype_to_descr(dtype)
    if repr(np.lib.format.descr_to_dtype(described)) != repr(dtype) or dtype.metadata:
        raise encoder.refuse(value, path, f"its dtype {dtype} has no plain description")
    return described


def read_dtype(_: Reader, described: Any) -> Any:
    dtype = np.lib.format.descr_to_dtype(_tuples(described))
    if dtype.hasobject:
        raise CorruptError("an array in the document of an object holds Python objects")
    return dtype


def _tuples(described: Any) -> Any:
    """JSON's lists back into the tuples that a record's description is made of."""
    if isinstance(described, str):
        return described
    return [
        tuple(_tuples(part) if at == 1 and not isinstance(part, str) else _shape(part) for at, part in enumerate(field))
        for field in described
    ]


def _shape(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def _dtype(encoder: Encoder, dtype: Any, path: str) -> Any:
    return ["dtype", describe_dtype(encoder, dtype, dtype, path)]


def _array(encoder: Encoder, array: Any, path: str) -> Any:
    described = describe_dtype(encoder, array.dtype, array, path)
    if array.size == 0 or array.dtype.itemsize == 0:
        return ["ndarray", described, None, list(array.shape), None, True]
    memory, _, shape, axes = _memory(array)
    writable = array.flags.writeable or not memory.raw().readonly
    return ["ndarray", described, encoder.buffer(memory), list(shape), axes, writable]


def read_ndarray(reader: Reader, described: Any, buffer: Any, shape: list[int], axes: Any, writable: bool) -> Any:
    dtype = read_dtype(reader, described)
    if buffer is None:
        return np.empty(shape, dtype)
    array = _rebuild(reader.buffer(buffer), dtype, tuple(shape), None if axes is None else tuple(axes), None, None)
    if not writable:
        array.flags.writeable = False
    return array


def _scalar(encoder: Encoder, scalar: Any, path: str) -> Any:
    described = describe_dtype(encoder, scalar.dtype, scalar, path)
    return ["scalar", described, encoder.buffer(np.array(scalar).tobytes())]


def read_scalar(reader: Reader, described: Any, buffer: Any) -> Any:
    dtype = read_dtype(reader, described)
    if dtype.itemsize == 0:
        return np.zeros((), dtype)[()]
    return np.frombuffer(reader.buffer(buffer), np.uint8).view(dtype)[0]
