"""Between a layer's inputs and the kernels' `(groups, elements, channels, rest)`.

Any input with any feature axis has that form without moving data in memory: `elements` are the
examples of a group and the dimensions before the feature axis, `rest` the dimensions after it.
Statistics belong to a group and a channel: `(groups, 1, channels, 1)`.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from keras import ops

from brn import backend
from brn.types import Tensor

_LARGEST = 2**31 - 1
"""The largest size of a dimension that is not known while a graph is traced."""

_Function: TypeAlias = Callable[[Tensor, Tensor | None], tuple[Any, ...]]


def in_groups(
    function: _Function,
    x: Tensor,
    axis: int,
    microbatch_size: int | None = None,
    mask: Tensor | None = None,
) -> tuple[Any, ...]:
    """Applies a function to a batch that is split into contiguous groups of examples.

    Where the batch does not divide, the last, smaller group is a call of its own.

    Args:
        function: takes groups as `(groups, elements, channels, rest)` and what of them counts:
            `None` for everything, else boolean and broadcastable to the first. Returns an output of
            the shape of its first argument, tensors of statistics, `(groups, 1, channels, 1)`, and
            how many elements each counts, or `None` where it is all of them.
        x: the batch, `(batch, ..., channels, ...)`.
        axis: the feature axis, positive.
        microbatch_size: examples in a group; `None` for one group of the whole batch.
        mask: `None` or boolean of `x`'s rank, with each size equal to `x`'s or 1.

    Returns:
        What `function` returns, the output in the shape of `x`, the statistics of all groups.
    """
    batch = backend.ops.shape(x)[0]
    if microbatch_size is None:
        return _Groups(x, axis, batch, 1).apply(function, x, mask)
    if isinstance(batch, int):
        size = min(microbatch_size, batch)
    else:
        size = ops.minimum(ops.maximum(batch, 1), min(microbatch_size, _LARGEST))
    groups, rest = batch // size, batch % size

    def equal() -> tuple[Any, ...]:
        return _Groups(x, axis, size, groups).apply(function, x, mask)

    def unequal() -> tuple[Any, ...]:
        most, masks = batch - rest, (mask, mask)
        if mask is not None and mask.shape[0] != 1:
            masks = mask[:most], mask[most:]
        parts = (x[:most], axis, size, groups), (x[most:], axis, rest, 1)
        results = [
            _Groups(*part).apply(function, part[0], of_part, counted=True)
            for part, of_part in zip(parts, masks, strict=True)
        ]
        return tuple(ops.concatenate(both, axis=0) for both in zip(*results, strict=True))

    if isinstance(rest, int):
        return unequal() if rest else equal()
    # Whether a batch of unknown size divides is known when it is there.
    return backend.shortcut(rest == 0, equal, unequal)


class _Groups:
    """`groups` of `size` examples, which are all of `x`."""

    def __init__(self, x: Tensor, axis: int, size: int | Tensor, groups: int | Tensor) -> None:
        self._shape = backend.ops.shape(x)
        self._axis = axis
        self._groups = groups
        self._elements = size * math.prod(self._shape[1:axis])
        self._rest = math.prod(self._shape[axis + 1 :])

    def apply(
        self, function: _Function, x: Tensor, mask: Tensor | None, counted: bool = False
    ) -> tuple[Any, ...]:
        """Applies `function`; `counted` says that `None` will not do for what counts."""
        y, *statistics, count = function(
            self._reshape(x, self._shape[self._axis], self._rest), self._valid(mask)
        )
        if counted and count is None:
            all_of_a_group = ops.cast(self._elements * self._rest, y.dtype)
            count = ops.ones_like(statistics[0]) * all_of_a_group
        return backend.reshape(y, self._shape), *statistics, count

    def _valid(self, mask: Tensor | None) -> Tensor | None:
        if mask is None:
            return None
        # Keep the mask small where it says nothing about the feature axis and what follows.
        trailing = (1,) * (len(self._shape) - self._axis)
        if tuple(mask.shape[self._axis :]) == trailing:
            mask = ops.broadcast_to(mask, (*self._shape[: self._axis], *trailing))
            return self._reshape(mask, channels=1, rest=1)
        mask = ops.broadcast_to(mask, self._shape)
        return self._reshape(mask, self._shape[self._axis], self._rest)

    def _reshape(self, x: Tensor, channels: int, rest: int) -> Tensor:
        return backend.reshape(x, (self._groups, self._elements, channels, rest))
