"""Between a layer's inputs and the kernels' `(groups, elements, channels, rest)`.

Any input with any feature axis has that form without moving data in memory: `elements` are the
examples of a group and the dimensions before the feature axis, `rest` the dimensions after it.
Statistics belong to a group and a channel: `(groups, 1, channels, 1)`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from keras import ops

from brn import backend
from brn.types import Tensor

_LARGEST = 2**31 - 1
"""The largest size of a dimension that is not known while a graph is traced."""

_Function: TypeAlias = Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]


def in_groups(
    function: _Function,
    x: Tensor,
    axis: int,
    microbatch_size: int | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Applies a function to a batch that is split into contiguous groups of examples.

    A batch that does not divide is filled up, and what is real is marked, so that the last, smaller
    group is normalized by itself and counts by its size.

    Args:
        function: takes the batch as `(groups, elements, channels, rest)` and what of it counts:
            `None` for everything, else boolean and broadcastable to the first. Returns a tuple of
            tensors, the first one of the shape of the grouped batch.
        x: the batch, `(batch, ..., channels, ...)`.
        axis: the feature axis, positive.
        microbatch_size: examples in a group; `None` for one group of the whole batch.
        mask: `None` or boolean of `x`'s rank, with each size equal to `x`'s or 1.

    Returns:
        What `function` returns, its first tensor in the shape of `x`.
    """
    batch = backend.ops.shape(x)[0]
    if microbatch_size is None:
        return _Groups(x, axis, batch, 1).apply(function, x, mask)
    if isinstance(batch, int):
        size = min(microbatch_size, batch)
    else:
        size = ops.minimum(ops.maximum(batch, 1), min(microbatch_size, _LARGEST))
    padding = -batch % size

    def padded_by(padding: int | Tensor) -> tuple[Tensor, ...]:
        groups = (batch + padding) // size
        return _Groups(x, axis, size, groups, padding).apply(function, x, mask)

    if isinstance(padding, int):
        return padded_by(padding)
    # Whether a batch of unknown size divides is known when it is there.
    return backend.shortcut(padding == 0, partial(padded_by, 0), partial(padded_by, padding))


class _Groups:
    """`groups` of `size` examples of a batch, the last one filled up by `padding` of them."""

    def __init__(
        self,
        x: Tensor,
        axis: int,
        size: int | Tensor,
        groups: int | Tensor,
        padding: int | Tensor = 0,
    ) -> None:
        self._shape = backend.ops.shape(x)
        self._axis = axis
        self._groups = groups
        self._elements = size * math.prod(self._shape[1:axis])
        self._rest = math.prod(self._shape[axis + 1 :])
        self._padding = padding
        self._padded = not (isinstance(padding, int) and padding == 0)

    def apply(self, function: _Function, x: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        y, *others = function(self._split(x), self._valid(mask))
        return self._join(y), *others

    def _valid(self, mask: Tensor | None) -> Tensor | None:
        if mask is None:
            if not self._padded:
                return None
            mask = ops.ones((self._shape[0],) + (1,) * (len(self._shape) - 1), dtype="bool")
        # Keep the mask small where it says nothing about the feature axis and what follows.
        trailing = (1,) * (len(self._shape) - self._axis)
        if tuple(mask.shape[self._axis :]) == trailing:
            mask = ops.broadcast_to(mask, (*self._shape[: self._axis], *trailing))
            return self._reshape(mask, channels=1, rest=1)
        return self._split(ops.broadcast_to(mask, self._shape))

    def _split(self, x: Tensor) -> Tensor:
        return self._reshape(x, self._shape[self._axis], self._rest)

    def _reshape(self, x: Tensor, channels: int, rest: int) -> Tensor:
        if self._padded:
            filling = ops.zeros((self._padding, *ops.shape(x)[1:]), dtype=x.dtype)
            x = ops.concatenate([x, filling], axis=0)
        return backend.reshape(x, (self._groups, self._elements, channels, rest))

    def _join(self, y: Tensor) -> Tensor:
        if not self._padded:
            return backend.reshape(y, self._shape)
        batch = self._shape[0]
        return backend.reshape(y, (batch + self._padding, *self._shape[1:]))[:batch]
