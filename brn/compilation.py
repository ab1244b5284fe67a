"""Functions of tensors, compiled as each backend does it."""

from collections.abc import Callable
from typing import Any

import keras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that takes no gradients, compiled where the backend compiles.

    Args:
        function: of tensors and structures of them, free of side effects.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False, reduce_retracing=True)
    import torch

    return torch.no_grad()(function)
