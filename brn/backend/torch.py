"""PyTorch: nothing is compiled, so that every call of Python counts."""

from collections.abc import Callable
from typing import Any

import keras
import torch
from torch.autograd import forward_ad
from torch.distributed.nn.functional import all_reduce

from brn.types import Shape, Tensor


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `brn.backend.other.compiled`."""
    return torch.no_grad()(function)


def read(variable: keras.Variable) -> Tensor:
    """Returns the present value of `variable`; it shares the variable's memory."""
    return variable.value


def reshape(x: Tensor, shape: Shape) -> Tensor:
    """Returns `x` in another shape.

    Where nothing is compiled, `keras.ops.reshape` takes ten times as long, to search the shape for
    symbolic tensors.
    """
    return x.reshape(shape)


def replica_sum(total: Tensor) -> Tensor:
    """Returns `total`, summed over the processes of `torch.distributed`, differentiable."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return total
    return all_reduce(total)


def transformed(x: Tensor) -> bool:
    """Returns whether more is done with `x` than to compute, and differentiate backwards.

    By `torch.autograd.forward_ad`, `torch.func` or batched gradients. PyTorch has no public name
    for the question.
    """
    return (
        forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or torch._C._functorch.is_legacy_batchedtensor(x)
    )


def shortcut(condition: Tensor, short: Callable[[], Any], general: Callable[[], Any]) -> Any:
    """Returns `general()`: here, sizes are known when it matters."""
    return general()
