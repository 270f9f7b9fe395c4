"""
torch: tensors in main memory, out of band, with what they share still shared.

A storage goes once, however many tensors view it; views come back as views of the same storage.
"""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import torch

from airfreight.codec.refusal import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    if cls is torch.Tensor:
        return reduce_tensor
    if cls is torch.nn.Parameter:
        return reduce_parameter
    if cls is torch.UntypedStorage:
        return reduce_storage
    return None


def reduce_tensor(tensor: Any) -> Any:
    """Reduces a tensor; refuses one with a gradient graph, whose history the next task could not follow."""
    if tensor.grad_fn is not None:
        raise RefusedError(
            f"it is the result of {type(tensor.grad_fn).__name__} and carries the graph of its gradient",
            "return `tensor.detach()`, or `tensor.item()` for a single number",
        )
    if (
        tensor.device.type != "cpu"
        or tensor.layout is not torch.strided
        or tensor.is_quantized
        or tensor.is_conj()
        or tensor.is_neg()
        or tensor._backward_hooks
        or tensor.__dict__
    ):
        return tensor.__reduce_ex__(5)
    shape, strides, offset = tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
    return _rebuild_tensor, (tensor.untyped_storage(), tensor.dtype, shape, strides, offset, tensor.requires_grad)


def reduce_parameter(parameter: Any) -> Any:
    """Reduces a parameter as its tensor."""
    if parameter.__dict__ or parameter._backward_hooks:
        return parameter.__reduce_ex__(5)
    return _rebuild_parameter, (parameter.data, parameter.requires_grad)


def reduce_storage(storage: Any) -> Any:
    """Reduces the memory behind tensors."""
    if storage.device.type != "cpu":
        return storage.__reduce_ex__(5)
    if storage.nbytes() == 0:
        return _rebuild_storage, (b"",)
    view = torch.empty(0, dtype=torch.uint8).set_(storage)
    return _rebuild_storage, (PickleBuffer(view.numpy()),)


def _rebuild_storage(buffer: Any) -> Any:
    """Part of the object format."""
    if not len(buffer):
        return torch.UntypedStorage(0)
    if memoryview(buffer).readonly:
        # Nobody may be able to write into a mapping that was asked for read-only, and torch can't say so.
        buffer = bytearray(buffer)
    return torch.frombuffer(buffer, dtype=torch.uint8).untyped_storage()


def _rebuild_tensor(
    storage: Any, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, requires_grad: bool
) -> Any:
    """Part of the object format."""
    tensor = torch.empty(0, dtype=dtype).set_(storage, offset, shape, strides)
    return tensor.requires_grad_(requires_grad)


def _rebuild_parameter(data: Any, requires_grad: bool) -> Any:
    """Part of the object format."""
    return torch.nn.Parameter(data, requires_grad=requires_grad)
