"""The arithmetic of the layers, on activations grouped as `(groups, elements, channels, rest)`.

`plain` is right in every case. Known backends have a faster pair of the same two functions, with
the gradient of section 3 derived by hand; `select` takes it where it serves.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras

from brn import backend
from brn.kernels import plain
from brn.kernels.plain import Moments, SplitMean
from brn.types import Tensor


class Kernel(NamedTuple):
    """`moments(x)` and `normalize(x, mu_B, sigma_B, r, d, gamma, beta)`, which belong together."""

    moments: Callable[..., Moments]
    normalize: Callable[..., Tensor]


_name = keras.config.backend()
_fast = importlib.import_module(f"brn.kernels.{_name if _name in backend.KNOWN else 'plain'}")
FAST = Kernel(_fast.moments, _fast.normalize)


def select(x: Tensor, valid: Tensor | None = None, synchronized: bool = False) -> Kernel:
    """Returns the `Kernel` for activations `x`, `(groups, elements, channels, rest)`.

    Args:
        x: the activations.
        valid: which elements count, or `None` for all of them.
        synchronized: whether statistics span the replicas that train in parallel.
    """
    if not synchronized and _fast.serves(x, valid):
        if valid is None:
            return FAST
        moments, normalize = (partial(function, valid=valid) for function in FAST)
        return Kernel(moments, normalize)
    total = backend.replica_sum if synchronized else (lambda total: total)
    return Kernel(partial(plain.moments, valid=valid, reduce=total), plain.normalize)


__all__ = ["FAST", "Kernel", "Moments", "SplitMean", "select"]
