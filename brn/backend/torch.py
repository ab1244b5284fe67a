"""PyTorch: nothing is compiled, so that every call of Python counts."""

import dataclasses
import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras
import torch
from torch.autograd import forward_ad
from torch.distributed.nn.functional import all_reduce

from brn.backend import other
from brn.types import Shape, Tensor


@dataclasses.dataclass(eq=False)
class _Remembered:
    """What groups of a pass saw: for as long as autograd's graph of it lives, which holds it."""

    statistics: list[Tensor]
    before: tuple[Tensor, ...]


_passes: weakref.WeakKeyDictionary[keras.Layer, weakref.WeakSet[_Remembered]] = (
    weakref.WeakKeyDictionary()
)


class TrainingPass(other.TrainingPass):
    """Tells a replay by its time, while gradients are computed, and its pass by the statistics.

    The statistics of the same activations are the same to the last bit. PyTorch has no public name
    for the question whether gradients are being computed.
    """

    def __init__(self, layer: keras.Layer) -> None:
        self._layer = layer
        self._seen: list[_Remembered] = []
        # The compiler replays the passes it compiled by itself.
        compiling = torch.compiler.is_compiling()
        self.replayed = not compiling and torch._C._current_graph_task_id() != -1

    def recall(self, statistics: Sequence[Tensor | None], before: tuple[Tensor, ...]) -> Any:
        """See `brn.backend.other.TrainingPass.recall`."""
        if not self.replayed and (torch.compiler.is_compiling() or not torch.is_grad_enabled()):
            return before
        statistics = [value.detach() for value in statistics if value is not None]
        if not self.replayed:
            mu, *others = before  # the others were computed, mu lies where `move` will change it
            self._seen.append(_Remembered(statistics, (mu.clone(), *others)))
            return before
        for known in _passes.get(self._layer, ()):
            if all(map(torch.equal, known.statistics, statistics)):
                return known.before
        raise ValueError(
            "A training pass while gradients are computed must be gradient checkpointing's replay "
            "of one before: pass use_reentrant=False to torch.utils.checkpoint.checkpoint, which "
            f"keeps the graph of that one. Received: {self._layer.name!r}, called with other "
            "activations than in any pass that is remembered"
        )

    def finished(self, y: Tensor) -> Tensor:
        """See `brn.backend.other.TrainingPass.finished`."""
        if self._seen and y.grad_fn is not None:
            y.grad_fn.metadata[TrainingPass] = self._seen
            if self._layer not in _passes:
                _passes[self._layer] = weakref.WeakSet()
            _passes[self._layer].update(self._seen)
        return y


class ops:  # noqa: N801  # as `keras.ops`
    """The operations of `keras.ops` that a call of a layer takes, of tensors and numbers only.

    `keras.ops` looks for symbolic tensors, variables and types at every operation, which takes
    longer than PyTorch's overhead and more than small statistics themselves.
    """

    any = staticmethod(torch.any)
    clip = staticmethod(torch.clamp)
    expm1 = staticmethod(torch.expm1)
    full_like = staticmethod(torch.full_like)
    isfinite = staticmethod(torch.isfinite)
    sqrt = staticmethod(torch.sqrt)
    stop_gradient = staticmethod(torch.detach)
    sum = staticmethod(torch.sum)
    where = staticmethod(torch.where)
    zeros_like = staticmethod(torch.zeros_like)

    @staticmethod
    def shape(x: Tensor) -> Shape:
        """Returns the shape of `x`."""
        return tuple(x.shape)

    @staticmethod
    def cast(x: Tensor, dtype: str | torch.dtype) -> Tensor:
        """Returns `x` in a dtype, given as PyTorch's or by its name."""
        dtype = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
        return x if x.dtype is dtype else x.to(dtype)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `brn.backend.other.compiled`."""
    return torch.no_grad()(function)


def is_plain_call(
    layer: keras.Layer, inputs: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> bool:
    """See `brn.backend.other.is_plain_call`.

    So it is of a built layer with a tensor that fits, on its device, without a mask and in a known
    mode: there is nothing to convert, to build, to infer or to hand on, for which Keras looks at
    every call.
    """
    return (
        type(inputs) is torch.Tensor
        and not args
        and kwargs.keys() == {"training"}
        and isinstance(kwargs["training"], bool)
        and layer.built
        and (fits := layer.input_spec) is not None
        and inputs.ndim == fits.ndim
        and all(inputs.shape[axis] == size for axis, size in fits.axes.items())
        and inputs.device == layer.moving_mean._value.device
        and getattr(inputs, "_keras_mask", None) is None
        and layer.activity_regularizer is None
        and keras.distribution.distribution() is None
    )


def known_finite(*values: Tensor) -> bool:
    """See `brn.backend.other.known_finite`."""
    total = functools.reduce(torch.add, values)
    return _costs_nothing_to_ask(total) and math.isfinite(total.sum().item())


def known_number(x: Tensor) -> Any:
    """See `brn.backend.other.known_number`."""
    return x.item() if _costs_nothing_to_ask(x) else None


def _costs_nothing_to_ask(x: Tensor) -> bool:
    """Returns whether Python may see the numbers of `x`, and need not wait for a device."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and not transformed(x)


class _Around(keras.StatelessScope):
    """Entered and left at once, to learn the scope around it, for which Keras has no question."""

    initialize_variables = False

    def __init__(self) -> None:
        pass


def _in_place() -> bool:
    """Returns whether variables are what lies in them: no scope keeps their changes."""
    if torch.compiler.is_compiling():
        return False
    with _Around() as scope:
        return scope.original_scope is None


def move(
    variables: Sequence[keras.Variable],
    olds: Sequence[Tensor],
    moves: Sequence[tuple[Any, Any]],
) -> None:
    """See `brn.backend.other.move`: in place, but where a scope keeps the changes of variables."""
    if not _in_place():
        return other.move(variables, olds, moves)
    for old, (change, alpha) in zip(olds, moves, strict=True):
        if isinstance(alpha, torch.Tensor):
            change, alpha = alpha * change, 1
        old.detach().add_(change, alpha=alpha)


def read(variables: Sequence[keras.Variable | None]) -> tuple[Tensor | None, ...]:
    """See `brn.backend.other.read`; where they lie: `move` changes them there."""
    if not _in_place():
        return tuple(None if each is None else each.value for each in variables)
    # What `value` would find, after asking for scopes, types and devices in a dozen calls.
    return tuple(None if each is None else each._value for each in variables)


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
