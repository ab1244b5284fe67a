"""The normalization on JAX: three passes over the activations forward, three backward.

XLA compiles a sum into one pass over what it reads, together with the arithmetic on the way, but
on CPUs only if nothing else in the program needs an intermediate result of it (else that is
stored, as large as the activations) and if no dimension has size 1. `_compact` and `_own` see to
the two.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from brn.kernels.plain import Moments, SplitMean
from brn.types import Shape, Tensor

_SAMPLE = 16


def serves(x: Tensor, valid: Tensor | None) -> bool:
    """Returns whether these functions take `x`, `(groups, elements, channels, rest)`: always."""
    return True


def moments(x: Tensor, valid: Tensor | None = None) -> Moments:
    """Returns the `Moments` of every group and channel, without a gradient.

    The sums are of differences from a number near the mean: for the mean, the mean of a sixteenth
    of the elements, which by Cauchy-Schwarz is within a few `sigma_B` of it whatever the data (of a
    mask, which may leave none of these, the largest element); for the variance, the mean itself.

    Args:
        x: `(groups, elements, channels, rest)`.
        valid: which elements count, boolean and broadcastable to `x`; all by default.
    """
    groups, elements, channels, rest = x.shape
    compact, axes = _compact(x.shape)
    x = compact(lax.stop_gradient(x))
    total = partial(jnp.sum, axis=axes, keepdims=True)
    count, counted = elements * rest, None

    if valid is None:
        longer = axes[0] if elements >= rest else axes[-1]
        sample = lax.slice_in_dim(x, 0, max(1, x.shape[longer] // _SAMPLE), axis=longer)
        near = jnp.mean(sample, axes, keepdims=True)
    else:
        valid = compact(valid)
        total, counted = partial(total, where=valid), _count(axes, x, valid)
        near = jnp.max(x, axes, keepdims=True, where=valid, initial=-jnp.inf)
        count, near = jnp.maximum(counted, 1), jnp.where(counted > 0, near, 0)
    # Behind `_own`: XLA would add and subtract what is a product in one operation, unrounded.
    near = _own(near, 1)
    distance = _own(total(x - near) / count, 1)
    center = near + distance
    offset = (near - center) + distance
    variance = jnp.maximum(total(jnp.square(x - center)) / count - jnp.square(offset), 0)

    shape = (groups, 1, channels, 1)
    mean = SplitMean(center.reshape(shape), offset.reshape(shape))
    if counted is not None:
        counted = jnp.broadcast_to(counted, variance.shape).reshape(shape)
    return Moments(mean, variance.reshape(shape), counted)


def normalize(
    x: Tensor,
    mu_B: SplitMean,
    sigma_B: Tensor,
    r: Tensor,
    d: Tensor,
    gamma: Tensor,
    beta: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Returns `gamma * ((x - mu_B) / sigma_B * r + d) + beta`, as `brn.kernels.plain.normalize`.

    In the gradient, `mu_B` and `sigma_B` are the functions that they are of what counts of `x`, `r`
    and `d` constants. It keeps `x` and numbers per channel. Derivatives of any order and mode are
    right.
    """
    compact, axes = _compact(x.shape)

    def per_channel(value: Tensor) -> Tensor:
        value = jnp.asarray(value, x.dtype)
        return compact(value if value.ndim else jnp.full((1, 1, x.shape[2], 1), value))

    values = map(per_channel, (mu_B.center, mu_B.offset, sigma_B, r, d, gamma, beta))
    valid = None if valid is None else compact(valid)
    # Recomputed from x: what the linear part of the derivative needs is not kept beside it. Without
    # the barrier around it, which would keep XLA from fusing what is on its two sides.
    recomputed = jax.checkpoint(partial(_normalize, axes), prevent_cse=False)
    return recomputed(valid, compact(x), *values).reshape(x.shape)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _normalize(
    axes: tuple[int, ...],
    valid: Tensor | None,
    x: Tensor,
    center: Tensor,
    offset: Tensor,
    sigma_B: Tensor,
    r: Tensor,
    d: Tensor,
    gamma: Tensor,
    beta: Tensor,
) -> Tensor:
    slope = gamma * r / sigma_B
    return (x - _own(center, 1)) * slope + (gamma * d + beta - offset * slope)


@_normalize.defjvp
def _normalize_derivative(
    axes: tuple[int, ...], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """With dots for derivatives, section 3 forwards; JAX transposes it to section 3.

    ```
    (sigma_B^2). / 2 = mean((x - mu_B) x.)
    y. = gamma r / sigma_B (x. - mean(x.) - (x - mu_B) mean((x - mu_B) x.) / sigma_B^2)
         + gamma. (r (x - mu_B) / sigma_B + d) + beta.
    ```
    """
    valid, x, center, offset, sigma_B, r, d, gamma, _ = primals
    dx, dgamma, dbeta = tangents[1], tangents[7], tangents[8]
    offset = _offset(axes, valid, x, offset)
    sigma_B = _deviation(axes, valid, x, center, offset, sigma_B)

    slope = gamma * r / sigma_B
    distance = x - _own(center, 1) - offset
    shrinkage = _covariance(axes, valid, distance, dx) / jnp.square(sigma_B)
    factor = dgamma * (r / sigma_B) - slope * shrinkage
    constant = dgamma * d + dbeta - offset * factor - slope * _mean(axes, valid, dx)
    return _normalize(axes, *primals), slope * dx + (x - _own(center, 2)) * factor + constant


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _offset(axes: tuple[int, ...], valid: Tensor | None, x: Tensor, offset: Tensor) -> Tensor:
    """The given offset, as the function `mean(x) - center` of `x`: for derivatives beyond first."""
    return offset


@_offset.defjvp
def _offset_derivative(
    axes: tuple[int, ...], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    return _offset(axes, *primals), _mean(axes, primals[0], tangents[1])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _deviation(
    axes: tuple[int, ...],
    valid: Tensor | None,
    x: Tensor,
    center: Tensor,
    offset: Tensor,
    sigma_B: Tensor,
) -> Tensor:
    """The given sigma_B, as the function of `x` that it is."""
    return sigma_B


@_deviation.defjvp
def _deviation_derivative(
    axes: tuple[int, ...], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    valid, x, center, offset, _ = primals
    sigma_B = _deviation(axes, *primals)
    return sigma_B, _covariance(axes, valid, x - center - offset, tangents[1]) / sigma_B


def _mean(axes: tuple[int, ...], valid: Tensor | None, values: Tensor) -> Tensor:
    if valid is None:
        return jnp.mean(values, axes, keepdims=True)
    count = jnp.maximum(_count(axes, values, valid), 1)
    return jnp.sum(values, axes, keepdims=True, where=valid) / count


def _covariance(
    axes: tuple[int, ...], valid: Tensor | None, distance: Tensor, values: Tensor
) -> Tensor:
    """Returns `mean(distance * values)`; what does not count may be NaN, which 0 times is no 0."""
    distance = distance if valid is None else jnp.where(valid, distance, 0)
    return _mean(axes, valid, distance * values)


def _count(axes: tuple[int, ...], x: Tensor, valid: Tensor) -> Tensor:
    """Returns how many elements count; `valid` may be of size 1 where it says nothing."""
    each = math.prod(x.shape[axis] // valid.shape[axis] for axis in axes)
    return each * jnp.sum(valid, axes, keepdims=True, dtype=x.dtype)


def _compact(shape: Shape) -> tuple[Callable[[Tensor], Tensor], tuple[int, ...]]:
    """Returns what drops `groups` or `rest` where it is 1, and the axes to sum over after that."""
    dropped = tuple(axis for axis in (0, 3) if shape[axis] == 1)
    axes = tuple(axis - (0 in dropped) for axis in (1, 3) if axis not in dropped)
    return partial(lax.squeeze, dimensions=dropped), axes


def _own(center: Tensor, use: int) -> Tensor:
    """Returns `center`, in a way that XLA does not merge with other uses of it."""
    largest = jnp.finfo(center.dtype).max
    return (
        lax.max(center, jnp.full_like(center, -largest))
        if use == 1
        else (lax.min(center, jnp.full_like(center, largest)))
    )
