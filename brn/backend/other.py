"""A backend that is not known: what `keras` and `keras.ops` say of it."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from brn.types import Shape, Tensor


class TrainingPass:
    """One training pass of a layer, which gradient checkpointing may run once more.

    That replay must see what the pass saw, though the averages have moved since, and move nothing.
    Here nothing is remembered: where state goes in and out of functions, a replay gets it again.

    Attributes:
        replayed: whether this pass is a replay.
    """

    replayed = False

    def __init__(self, layer: keras.Layer) -> None:
        pass

    def recall(self, statistics: Sequence[Tensor | None], before: tuple[Tensor, ...]) -> Any:
        """Returns `before`, or what it was in the pass that this one replays.

        Args:
            statistics: those of the minibatch, by which a pass is known again.
            before: what the pass takes from before its step.
        """
        return before

    def finished(self, y: Tensor) -> Tensor:
        """Returns `y`, the output of the pass, and sees to it that a replay finds the pass."""
        return y


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of tensors that takes no gradients, compiled where backends compile.

    Args:
        function: of tensors and structures of them, free of side effects.
    """
    return function


def is_plain_call(
    layer: keras.Layer, inputs: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> bool:
    """Returns whether Keras's `__call__` could be left out of a call, if that saves anything.

    `False` says nothing.

    Args:
        layer: a layer without layers of its own.
        inputs: what it is called with.
        args, kwargs: further arguments of the call.
    """
    return False


def known_finite(*values: Tensor) -> bool:
    """Returns whether all numbers in tensors of one shape are finite, if that costs little to ask.

    `False` says nothing.
    """
    return False


def known_number(x: Tensor) -> Any:
    """Returns a scalar tensor as a number of Python, or `None` where asking is not for free."""
    return None


def move(
    variables: Sequence[keras.Variable],
    olds: Sequence[Tensor],
    moves: Sequence[tuple[Any, Any]],
) -> None:
    """Adds `alpha * change` to each variable.

    Args:
        variables: what is moved.
        olds: what `read` gave.
        moves: `(change, alpha)` of each.
    """
    for variable, old, (change, alpha) in zip(variables, olds, moves, strict=True):
        variable.assign(old + ops.cast(alpha * change, old.dtype))


def read(variables: Sequence[keras.Variable | None]) -> tuple[Tensor | None, ...]:
    """Returns the present values of variables, each by one read; of `None`, `None`."""
    return tuple(None if each is None else ops.convert_to_tensor(each.value) for each in variables)


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
