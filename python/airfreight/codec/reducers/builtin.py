"""Python's own types that pickle copies, or can't do although there is only one thing they can mean."""

from __future__ import annotations

from array import array
from pickle import PickleBuffer
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    if issubclass(cls, BaseException):
        plain = cls.__reduce__ is BaseException.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__
        return _reduce_exception if plain and isinstance(cls.__init__, FunctionType) else None
    return _REDUCERS.get(cls)


def _reduce_array(values: array[Any]) -> Any:
    if not len(values):
        return values.__reduce_ex__(5)
    return _rebuild_array, (values.typecode, PickleBuffer(memoryview(values).cast("B")))


def _rebuild_array(typecode: str, buffer: Any) -> array[Any]:
    values = array(typecode)
    values.frombytes(buffer)
    return values


def _reduce_memoryview(view: memoryview) -> Any:
    """
    A view comes back as a view of the same bytes, shape, format and mutability; not of the object it was taken from.

    A view of scattered memory comes back contiguous.
    """
    if not view.c_contiguous:
        view = memoryview(bytearray(view.tobytes())).cast("B").cast(view.format, view.shape)  # type: ignore[call-overload]
    if not view.nbytes:
        return _rebuild_memoryview, (b"" if view.readonly else bytearray(), view.format, view.shape)
    return _rebuild_memoryview, (PickleBuffer(view.cast("B")), view.format, view.shape)


def _rebuild_memoryview(buffer: Any, form: str, shape: tuple[int, ...]) -> memoryview:
    view = memoryview(buffer).cast("B")
    if 0 in shape:
        return view.cast(form)  # type: ignore[call-overload, no-any-return]
    return view.cast(form, shape) if (form, shape) != ("B", (len(view),)) else view  # type: ignore[call-overload]


def _reduce_mapping_proxy(proxy: MappingProxyType[Any, Any]) -> Any:
    return _rebuild_mapping_proxy, (dict(proxy),)


def _rebuild_mapping_proxy(mapping: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(mapping)


def _reduce_exception(error: BaseException) -> Any:
    # Pickle calls the class with `args`, which fails for every exception whose `__init__` takes something else.
    return _rebuild_exception, (type(error), error.args), error.__dict__ or None


def _rebuild_exception(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = cls.__new__(cls, *args)
    # What Python's own exceptions keep beside `args` (an exit code, a position) is set by their `__init__`.
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    builtin.__init__(error, *args)
    return error


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    array: _reduce_array,
    memoryview: _reduce_memoryview,
    MappingProxyType: _reduce_mapping_proxy,
}
