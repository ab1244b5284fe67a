"""The normalization on PyTorch, by the primitives of its own batch normalization.

Those know one group. Several groups take element-wise operations, as many of them at a time as fit
into a core's cache; a group that fills it by itself has its statistics from the primitive.
Under `torch.compile` the plain functions serve: the compiler fuses them itself. So they do where
derivatives are taken in another way than backwards: autograd knows their every derivative.
"""

import itertools
from typing import Any

import torch

from brn.backend.torch import transformed
from brn.kernels.plain import AXES, Moments, SplitMean
from brn.types import Tensor

_FAR = 100.0
_CACHED = 2**17
"""How many numbers surely stay in a core's cache."""


def serves(x: Tensor, valid: Tensor | None) -> bool:
    """Returns whether these functions take `x`, `(groups, elements, channels, rest)`."""
    return (
        x.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not transformed(x)
    )


def moments(x: Tensor, valid: Tensor | None = None) -> Moments:
    """Returns the `Moments` of every group and channel, without a gradient.

    On CPUs, PyTorch's sums lose the precision of means that are far from zero, in units of the
    standard deviation. `center` is `None` where none of them is.

    Args:
        x: `(groups, elements, channels, rest)`.
        valid: which elements count, boolean and broadcastable to `x`; all by default.
    """
    x = x.detach()
    if valid is not None:
        center = _mean(torch.where(valid, x, 0.0), valid)
        distance = (x - center).masked_fill_(~valid, 0.0)
        offset = _mean(distance, valid)
        variance = _mean(distance.square_(), valid) - offset.square()
        count = _count(x, valid).expand(variance.shape)
        return Moments(SplitMean(center, offset), variance.clamp_(min=0.0), count)
    center, (mean, variance) = None, _about_zero(x)
    if _far(x, mean, variance):
        center = x.mean(AXES, keepdim=True)
        center += (x - center).mean(AXES, keepdim=True)
        mean, variance = _about_zero(x - center)
    return Moments(SplitMean(center, mean), variance, None)


def _count(x: Tensor, valid: Tensor) -> Tensor:
    """Returns how many elements of each group and channel count."""
    return valid.sum(AXES, keepdim=True, dtype=x.dtype) * (x.shape[3] // valid.shape[3])


def _mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """Returns the mean over what counts; elsewhere `x` is 0."""
    if valid is None:
        return x.mean(AXES, keepdim=True)
    return x.sum(AXES, keepdim=True) / _count(x, valid).clamp(min=1)


def _far(x: Tensor, mean: Tensor, variance: Tensor) -> bool:
    if x.device.type != "cpu":
        # The question would wait for the answer; sums over one group are precise there.
        return x.shape[0] > 1
    nearness = torch.addcmul(variance, mean, mean, value=-1 / _FAR).min().item()
    # Asked like this, NaN in one channel does not hide another one that is far.
    return not nearness >= 0


def _about_zero(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance of every group and channel."""
    if x.shape[0] == 1:
        shape = (1, 1, x.shape[2], 1)
        mean, variance = torch.batch_norm_update_stats(_as_images(x), None, None, 0.0)
        return mean.view(shape), variance.view(shape)
    at_a_time = _groups_in_cache(x)
    if at_a_time < x.shape[0]:
        mean, variance = zip(*map(_about_zero, x.split(at_a_time)), strict=True)
        return torch.cat(mean), torch.cat(variance)
    mean = x.mean(AXES, keepdim=True)
    return mean, (x - mean).square_().mean(AXES, keepdim=True)


def _groups_in_cache(x: Tensor) -> int:
    """Returns how many groups of `x` to pass over several times before going on to the next."""
    groups = x.shape[0]
    return max(1, _CACHED * groups // max(1, x.numel())) if x.device.type == "cpu" else groups


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
    and `d` constants. It keeps `x` and numbers per channel, and has a gradient itself.
    """
    return _Normalize.apply(x, gamma, beta, (mu_B, sigma_B, r, d, valid))


class _Normalize(torch.autograd.Function):
    # The old style, with `ctx` in `forward`: else `apply` inspects the signature at every call. It
    # knows no `torch.func`, for which the plain functions serve.
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, constants: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, gamma if isinstance(gamma, torch.Tensor) else None)
        ctx.constants = constants
        mu_B, sigma_B, r, d, _ = constants
        slope = (gamma if isinstance(r, float) else gamma * r) / sigma_B
        constant = beta if isinstance(d, float) else gamma * d + beta
        return torch.addcmul(constant - mu_B.offset * slope, _shifted(x, mu_B), slope)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, gamma = ctx.saved_tensors
        mu_B, sigma_B, r, d, valid = ctx.constants
        scale = r if gamma is None else gamma if isinstance(r, float) else gamma * r
        if torch.is_grad_enabled() or transformed(dy):
            gradients = _differentiable_backward(dy, x, mu_B, sigma_B, scale, valid)
        elif valid is None and x.shape[0] == 1:
            gradients = _backward_of_one(dy, _shifted(x, mu_B), mu_B.offset, sigma_B, scale)
        else:
            gradients = _backward(dy, _shifted(x, mu_B), mu_B.offset, sigma_B, scale, valid)
        dx, dgamma, dbeta = gradients
        if not isinstance(r, float):
            dgamma = r * dgamma + d * dbeta
        if x.shape[0] > 1:
            dgamma, dbeta = dgamma.sum(0, keepdim=True), dbeta.sum(0, keepdim=True)
        _, for_gamma, for_beta, _ = ctx.needs_input_grad
        return dx, dgamma if for_gamma else None, dbeta if for_beta else None, None


def _backward(
    dy: Tensor, x: Tensor, offset: Tensor, sigma_B: Tensor, scale: Tensor, valid: Tensor | None
) -> Any:
    """Section 3 for several groups, with `x0 = (x - mu_B) / sigma_B` and `scale = gamma r`.

    Returns `scale / sigma_B (dy - mean(dy) - x0 mean(dy x0))`, `sum(dy x0)` and `sum(dy)`; with a
    mask, what does not count is not in the statistics, and has `scale / sigma_B dy` alone.
    """
    dx, groups = torch.empty_like(x), _groups_in_cache(x)
    values = (dx, dy, x, offset, sigma_B, scale / sigma_B)
    parts = zip(*(value.split(groups) for value in values), strict=True)
    valid_parts = itertools.repeat(None) if valid is None else valid.split(groups)
    total_dy_x, total_dy = zip(*map(_write_dx, parts, valid_parts), strict=True)
    return dx, torch.cat(total_dy_x), torch.cat(total_dy)


def _write_dx(part: tuple[Tensor, ...], valid: Tensor | None) -> tuple[Tensor, Tensor]:
    dx, dy, x, offset, sigma_B, slope = part
    count = x.shape[1] * x.shape[3] if valid is None else _count(x, valid).clamp(min=1)
    total_dy = dy.sum(AXES, keepdim=True)
    total_dy_x = torch.mul(x, dy, out=dx).sum(AXES, keepdim=True)
    total_dy_x = (total_dy_x - offset * total_dy) / sigma_B
    shrinkage = total_dy_x / (count * sigma_B)
    torch.addcmul(slope * (offset * shrinkage - total_dy / count), dy, slope, out=dx)
    dx.addcmul_(x, -slope * shrinkage)
    if valid is not None:
        torch.where(valid, dx, slope * dy, out=dx)
    return total_dy_x, total_dy


def _backward_of_one(dy: Tensor, x: Tensor, offset: Tensor, sigma_B: Tensor, scale: Tensor) -> Any:
    """The same for a single group."""
    dx, total_dy_x, total_dy = torch.ops.aten.native_batch_norm_backward.default(
        _as_images(dy),
        _as_images(x),
        None if isinstance(scale, float) else scale.view(-1),
        None,
        None,
        offset.view(-1),
        sigma_B.reciprocal().view(-1),
        True,
        0.0,
        [True, True, True],
    )
    return dx.view(x.shape), total_dy_x.view(sigma_B.shape), total_dy.view(sigma_B.shape)


def _differentiable_backward(
    dy: Tensor, x: Tensor, mu_B: SplitMean, sigma_B: Tensor, scale: Tensor, valid: Tensor | None
) -> Any:
    """The same, with statistics that are functions of `x`."""

    def counted(values: Tensor) -> Tensor:
        return values if valid is None else torch.where(valid, values, 0.0)

    distance, count = _shifted(x, mu_B), x.shape[1] * x.shape[3]
    if valid is not None:
        count = _count(x, valid).clamp(min=1)
    offset = _with_gradient_of(mu_B.offset, _mean(counted(distance), valid))
    variance = _mean(counted(distance - offset).square(), valid)
    sigma_B = _with_gradient_of(sigma_B.square(), variance).sqrt()
    x0 = (distance - offset) / sigma_B
    total_dy_x, total_dy = ((dy * f).sum(AXES, keepdim=True) for f in (x0, torch.ones_like(x0)))
    dx = scale / sigma_B * (dy - counted((total_dy + x0 * total_dy_x) / count))
    return dx, total_dy_x, total_dy


def _with_gradient_of(value: Tensor, function: Tensor) -> Tensor:
    return value + (function - function.detach())


def _shifted(x: Tensor, mu_B: SplitMean) -> Tensor:
    return x if mu_B.center is None else x - mu_B.center


def _as_images(x: Tensor) -> Tensor:
    """Returns a single group as `(batch, channels)` or `(batch, channels, rest)`, a view."""
    return x.squeeze((0, 3))
