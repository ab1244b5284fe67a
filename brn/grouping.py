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
        return _in_equal_groups(function, x, axis, batch, 1, mask)
    if isinstance(batch, int):
        size = min(microbatch_size, batch)
    else:
        size = ops.minimum(ops.maximum(batch, 1), min(microbatch_size, _LARGEST))
    groups, rest = batch // size, batch % size

    def equal() -> tuple[Any, ...]:
        return _in_equal_groups(function, x, axis, size, groups, mask)

    def unequal() -> tuple[Any, ...]:
        most, masks = batch - rest, (mask, mask)
        if mask is not None and mask.shape[0] != 1:
            masks = mask[:most], mask[most:]
        first = _in_equal_groups(function, x[:most], axis, size, groups, masks[0], counted=True)
        last = _in_equal_groups(function, x[most:], axis, rest, 1, masks[1], counted=True)
        return tuple(ops.concatenate(parts, axis=0) for parts in zip(first, last, strict=True))

    if isinstance(rest, int):
        return unequal() if rest else equal()
    # Whether a batch of unknown size divides is known when it is there.
    return backend.shortcut(rest == 0, equal, unequal)


def _in_equal_groups(
    function: _Function,
    x: Tensor,
    axis: int,
    size: int | Tensor,
    groups: int | Tensor,
    mask: Tensor | None,
    counted: bool = False,
) -> tuple[Any, ...]:
    """`in_groups` of one size; `counted` says that `None` will not do for what counts."""
    shape = backend.ops.shape(x)
    leading, trailing = shape[:axis], shape[axis:]
    elements, rest = size * math.prod(leading[1:]), math.prod(trailing[1:])
    grouped, valid = (groups, elements, trailing[0], rest), None
    if mask is not None and tuple(mask.shape[axis:]) == (1,) * len(trailing):
        # Kept small where it says nothing about the feature axis and what follows.
        mask = ops.broadcast_to(mask, (*leading, *mask.shape[axis:]))
        valid = backend.reshape(mask, (groups, elements, 1, 1))
    elif mask is not None:
        valid = backend.reshape(ops.broadcast_to(mask, shape), grouped)
    y, *statistics, count = function(backend.reshape(x, grouped), valid)
    if counted and count is None:
        count = ops.ones_like(statistics[0]) * ops.cast(elements * rest, y.dtype)
    return backend.reshape(y, shape), *statistics, count
