"""Between a layer's inputs and the kernels' `(groups, elements, channels, rest)`.

Any input with any feature axis has that form without moving data in memory: `elements` are the
examples of a group and the dimensions before the feature axis, `rest` the dimensions after it.
Statistics belong to a group and a channel: `(groups, 1, channels, 1)`.
"""

import math

from keras import ops


class Grouping:
    """How one batch splits into contiguous groups of examples.

    A batch that does not divide is filled up; `valid` marks what is real, so that the last, smaller
    group is normalized by itself and counts by its size.

    Args:
        x: the inputs, `(batch, ..., channels, ...)`.
        axis: the feature axis, positive.
        microbatch_size: examples in a group; `None` for one group of the whole batch.
        mask: `None` or boolean of `x`'s rank, with each size equal to `x`'s or 1.

    Attributes:
        valid: `None` where every element counts, else boolean, broadcastable to `split(x)`.
    """

    def __init__(self, x, axis, microbatch_size=None, mask=None):
        self._shape = ops.shape(x)
        self._axis = axis
        batch = self._shape[0]
        size = batch if microbatch_size is None else microbatch_size
        if isinstance(batch, int):
            size = max(min(size, batch), 1)
        self._groups = 1 if microbatch_size is None else -(-batch // size)
        self._padding = self._groups * size - batch if microbatch_size is not None else 0
        self._elements = size * math.prod(self._shape[1:axis])
        self._rest = math.prod(self._shape[axis + 1 :])
        self.valid = self._valid(mask)

    @property
    def _padded(self):
        return not (isinstance(self._padding, int) and self._padding == 0)

    def _valid(self, mask):
        if mask is None:
            if not self._padded:
                return None
            mask = ops.ones((self._shape[0],) + (1,) * (len(self._shape) - 1), dtype="bool")
        # Keep the mask small where it says nothing about the feature axis and what follows.
        trailing = (1,) * (len(self._shape) - self._axis)
        if tuple(mask.shape[self._axis :]) == trailing:
            mask = ops.broadcast_to(mask, (*self._shape[: self._axis], *trailing))
            return self._reshape(mask, channels=1, rest=1)
        return self.split(ops.broadcast_to(mask, self._shape))

    def split(self, x):
        """Returns `x` as `(groups, elements, channels, rest)`."""
        return self._reshape(x, self._shape[self._axis], self._rest)

    def _reshape(self, x, channels, rest):
        if self._padded:
            filling = ops.zeros((self._padding, *ops.shape(x)[1:]), dtype=x.dtype)
            x = ops.concatenate([x, filling], axis=0)
        return ops.reshape(x, (self._groups, self._elements, channels, rest))

    def join(self, y):
        """Returns `y`, of `split`'s shape, in the shape of the inputs."""
        if not self._padded:
            return ops.reshape(y, self._shape)
        batch = self._shape[0]
        return ops.reshape(y, (batch + self._padding, *self._shape[1:]))[:batch]
