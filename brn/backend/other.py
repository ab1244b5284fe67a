"""A backend that is not known: what `keras` and `keras.ops` say of it."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from brn.types import Shape, Tensor


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of tensors that takes no gradients, compiled where backends compile.

    Args:
        function: of tensors and structures of them, free of side effects.
    """
    return function


def read(variable: keras.Variable) -> Tensor:
    """Returns the present value of `variable`."""
    return ops.convert_to_tensor(variable.value)


def reshape(x: Tensor, shape: Shape) -> Tensor:
    """Returns `x` in another shape."""
    return ops.reshape(x, shape)


def replica_sum(total: Tensor) -> Tensor:
    """Returns `total`, summed over the replicas that train in parallel, differentiable."""
    raise ValueError(
        "How replicas add up their statistics is known for TensorFlow, JAX and PyTorch. Use one "
        "of these, or synchronized=False. Received: synchronized=True with the backend "
        f"{keras.config.backend()!r}"
    )


def shortcut(condition: Tensor, short: Callable[[], Any], general: Callable[[], Any]) -> Any:
    """Returns `short()` where a condition holds, else `general()`, which is right in any case."""
    return general()
