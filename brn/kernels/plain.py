"""The normalization in plain `keras.ops`: differentiated by the backend, right in every case.

Activations arrive as `(groups, elements, channels, rest)`, statistics have the shape
`(groups, 1, channels, 1)` (see `brn/grouping.py`): a statistic is taken over axes 1 and 3.
"""

from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from brn.types import Tensor

AXES = (1, 3)


class SplitMean(NamedTuple):
    """A mean in two pieces, `center + offset`, so that differences from it keep their precision.

    In float32 a mean near 1e6 is known to 0.06 only. `center` is such a rounded mean; `offset` is
    the mean of `x - center`, small and exact. `mean - mu` adds the small pieces last. A kernel of
    its own may leave out a center that is 0: `None`.
    """

    center: Tensor | None
    offset: Tensor

    def __sub__(self, other: Tensor) -> Tensor:
        return self.offset - other if self.center is None else self.center - other + self.offset

    def where(self, condition: Tensor, other: Tensor) -> "SplitMean":
        """Returns this mean where `condition` holds, else `other`."""
        return SplitMean(
            ops.where(condition, self.center, other), ops.where(condition, self.offset, 0.0)
        )


class Moments(NamedTuple):
    """Statistics of each group and channel: `mean`, biased `variance`, and `count` of elements.

    A `count` of `None` says that it is the same, and not 0, in all groups and channels.
    """

    mean: SplitMean
    variance: Tensor
    count: Tensor


def moments(
    x: Tensor, valid: Tensor | None = None, reduce: Callable[[Tensor], Tensor] = lambda total: total
) -> Moments:
    """Returns the moments of every group and channel, by the corrected two-pass algorithm.

    Args:
        x: `(groups, elements, channels, rest)`.
        valid: which elements count, boolean and broadcastable to `x`; all by default. What does
            not count may hold anything, NaN too.
        reduce: adds totals up over replicas, where statistics are synchronized.

    Returns:
        `Moments`. Where nothing counts, `count`, mean and variance are 0.
    """

    def total(values: Tensor) -> Tensor:
        if valid is not None:
            values = ops.where(valid, values, ops.zeros_like(values))
        return reduce(ops.sum(values, axis=AXES, keepdims=True))

    if valid is None:
        shape = ops.shape(x)
        count = reduce(ops.ones_like(x[:, :1, :, :1]) * ops.cast(shape[1] * shape[3], x.dtype))
    else:
        count = total(ops.ones_like(x))
    elements = ops.maximum(count, 1)
    # The center is an element, not a sum: XLA may compute it more than once, and a sum in another
    # order is rounded differently. The gradient flows through the offset alone; it does not depend
    # on where the center lies.
    element = x if valid is None else ops.where(valid, x, ops.full_like(x, -float("inf")))
    element = ops.amax(element, axis=AXES, keepdims=True)
    element = ops.where(count > 0, element, ops.zeros_like(element))
    center = ops.stop_gradient(reduce(element) / reduce(ops.ones_like(element)))
    offset = total(x - center) / elements
    variance = total(ops.square(x - center - offset)) / elements
    return Moments(SplitMean(center, offset), variance, count)


def normalize(
    x: Tensor, mu_B: SplitMean, sigma_B: Tensor, r: Tensor, d: Tensor, gamma: Tensor, beta: Tensor
) -> Tensor:
    """Returns `gamma * ((x - mu_B) / sigma_B * r + d) + beta`.

    Args:
        x: `(groups, elements, channels, rest)`.
        mu_B: `SplitMean` of each group and channel.
        sigma_B, r, d: of each group and channel, `(groups, 1, channels, 1)`.
        gamma, beta: of each channel, `(1, 1, channels, 1)`, or the numbers 1 and 0.
    """
    slope = gamma * r / sigma_B
    return (x - mu_B.center) * slope + (gamma * d + beta - mu_B.offset * slope)


def serves(x: Tensor, valid: Tensor | None) -> bool:
    """Returns whether these functions take `x` by themselves: `select` gives them a mask."""
    return valid is None
