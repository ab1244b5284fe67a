"""The normalization on PyTorch, by the primitives of its own batch normalization.

Those know one group. Several groups take element-wise operations, as many of them at a time as fit
into a core's cache; a group that fills it by itself has its statistics from the primitive.
Under `torch.compile` the plain functions serve: the compiler fuses them itself. So they do where
derivatives are taken in another way than backwards: autograd knows their every derivative.
"""

from typing import Any

import torch

from brn.backend.torch import transformed
from brn.kernels.plain import AXES, Moments, SplitMean
from brn.types import Shape, Tensor

_FAR = 100.0
_CACHED = 2**17
"""How many numbers surely stay in a core's cache."""


def serves(x: Tensor) -> bool:
    """Returns whether these functions take `x`, `(groups, elements, channels, rest)`."""
    return (
        x.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not transformed(x)
    )


def moments(x: Tensor) -> Moments:
    """Returns the `Moments` of every group and channel, without a gradient.

    On CPUs, PyTorch's sums lose the precision of means that are far from zero, in units of the
    standard deviation. `center` is 0 where none of them is.

    Args:
        x: `(groups, elements, channels, rest)`.
    """
    x = x.detach()
    center, (mean, variance) = 0.0, _about_zero(x)
    # On GPUs the question would wait for the answer; their sum over one group is precise.
    on_cpu = x.device.type == "cpu"
    if bool((mean.square() > _FAR * variance).any()) if on_cpu else x.shape[0] > 1:
        center = x.mean(AXES, keepdim=True)
        center += (x - center).mean(AXES, keepdim=True)
        mean, variance = _about_zero(x - center)
    return Moments(SplitMean(center, mean), variance, None)


def _about_zero(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance of every group and channel."""
    parts = map(_about_zero_in_cache, x.split(_groups_in_cache(x)))
    mean, variance = zip(*parts, strict=True)
    return torch.cat(mean), torch.cat(variance)


def _about_zero_in_cache(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[0] == 1:
        shape = (1, 1, x.shape[2], 1)
        mean, variance = torch.batch_norm_update_stats(_as_images(x), None, None, 0.0)
        return mean.reshape(shape), variance.reshape(shape)
    mean = x.mean(AXES, keepdim=True)
    return mean, (x - mean).square_().mean(AXES, keepdim=True)


def _groups_in_cache(x: Tensor) -> int:
    """Returns how many groups of `x` to pass over several times before going on to the next."""
    groups = x.shape[0]
    return max(1, _CACHED * groups // max(1, x.numel())) if x.device.type == "cpu" else groups


def normalize(
    x: Tensor, mu_B: SplitMean, sigma_B: Tensor, r: Tensor, d: Tensor, gamma: Tensor, beta: Tensor
) -> Tensor:
    """Returns `gamma * ((x - mu_B) / sigma_B * r + d) + beta`, as `brn.kernels.plain.normalize`.

    In the gradient, `mu_B` and `sigma_B` are the functions of `x` that they are, `r` and `d`
    constants. It keeps `x` and numbers per channel, and has a gradient itself.
    """
    r, d, gamma, beta = (
        value if torch.is_tensor(value) else x.new_full((1, 1, x.shape[2], 1), value)
        for value in (r, d, gamma, beta)
    )
    return _Normalize.apply(x, mu_B.center, mu_B.offset, sigma_B, r, d, gamma, beta)


class _Normalize(torch.autograd.Function):
    # The old style, with `ctx` in `forward`: else `apply` inspects the signature at every call. It
    # knows no `torch.func`, for which the plain functions serve.
    @staticmethod
    def forward(ctx: Any, x: Tensor, *values: Tensor) -> Tensor:
        center, offset, sigma_B, r, d, gamma, beta = values
        ctx.center = center
        ctx.save_for_backward(x, offset, sigma_B, r, d, gamma)
        slope, constant = gamma * r, gamma * d + beta
        x = _shifted(x, center)
        if x.shape[0] > 1:
            slope = slope / sigma_B
            return torch.addcmul(constant - offset * slope, x, slope)
        y, _, _ = torch.native_batch_norm(
            _as_images(x),
            slope.flatten(),
            constant.flatten(),
            offset.flatten(),
            sigma_B.flatten().square(),
            training=False,
            momentum=0.0,
            eps=0.0,
        )
        return _from_images(y, x.shape)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, offset, sigma_B, r, d, gamma = ctx.saved_tensors
        if torch.is_grad_enabled() or transformed(dy):
            gradients = _differentiable_backward(dy, x, ctx.center, offset, sigma_B, r, gamma)
        else:
            x = _shifted(x, ctx.center)
            backward = _backward if x.shape[0] > 1 else _backward_of_one
            gradients = backward(dy, x, offset, sigma_B, r, gamma)
        dx, total_dy_x, total_dy = gradients
        dgamma = (r * total_dy_x + d * total_dy).sum(0, keepdim=True)
        return dx, None, None, None, None, None, dgamma, total_dy.sum(0, keepdim=True)


def _backward(
    dy: Tensor, x: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor, gamma: Tensor
) -> Any:
    """Section 3 for several groups, with `x0 = (x - mu_B) / sigma_B`.

    Returns `gamma r / sigma_B (dy - mean(dy) - x0 mean(dy x0))`, `sum(dy x0)` and `sum(dy)`.
    """
    dx, groups = torch.empty_like(x), _groups_in_cache(x)
    values = (dx, dy, x, offset, sigma_B, gamma * r / sigma_B)
    parts = zip(*(value.split(groups) for value in values), strict=True)
    total_dy_x, total_dy = zip(*(_write_dx(*part) for part in parts), strict=True)
    return dx, torch.cat(total_dy_x), torch.cat(total_dy)


def _write_dx(
    dx: Tensor, dy: Tensor, x: Tensor, offset: Tensor, sigma_B: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor]:
    count = x.shape[1] * x.shape[3]
    total_dy = dy.sum(AXES, keepdim=True)
    total_dy_x = torch.mul(x, dy, out=dx).sum(AXES, keepdim=True)
    total_dy_x = (total_dy_x - offset * total_dy) / sigma_B
    shrinkage = total_dy_x / (count * sigma_B)
    torch.addcmul(slope * (offset * shrinkage - total_dy / count), dy, slope, out=dx)
    dx.addcmul_(x, -slope * shrinkage)
    return total_dy_x, total_dy


def _backward_of_one(
    dy: Tensor, x: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor, gamma: Tensor
) -> Any:
    """The same for a single group."""
    dx, *totals = torch.ops.aten.native_batch_norm_backward(
        _as_images(dy),
        _as_images(x),
        (gamma * r).flatten(),
        None,
        None,
        offset.flatten(),
        sigma_B.flatten().reciprocal(),
        True,
        0.0,
        [True, True, True],
    )
    return _from_images(dx, x.shape), *(total.reshape(sigma_B.shape) for total in totals)


def _differentiable_backward(
    dy: Tensor, x: Tensor, center: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor, gamma: Tensor
) -> Any:
    """The same, with statistics that are functions of `x`."""
    distance = x - center
    offset = _with_gradient_of(offset, distance.mean(AXES, keepdim=True))
    variance = (distance - offset).square().mean(AXES, keepdim=True)
    sigma_B = _with_gradient_of(sigma_B.square(), variance).sqrt()
    x0 = (distance - offset) / sigma_B
    total_dy_x, total_dy = ((dy * f).sum(AXES, keepdim=True) for f in (x0, torch.ones_like(x0)))
    count = x.shape[1] * x.shape[3]
    dx = gamma * r / sigma_B * (dy - (total_dy + x0 * total_dy_x) / count)
    return dx, total_dy_x, total_dy


def _with_gradient_of(value: Tensor, function: Tensor) -> Tensor:
    return value + (function - function.detach())


def _shifted(x: Tensor, center: Tensor) -> Tensor:
    return x - center if torch.is_tensor(center) else x


def _as_images(x: Tensor) -> Tensor:
    """Returns a single group as `(batch, channels, ...)`, without moving data in memory."""
    _, elements, channels, rest = x.shape
    if rest == 1:
        # Channels last, of one image.
        return x.reshape(1, 1, elements, channels).permute(0, 3, 1, 2)
    return x.reshape(elements, channels, rest)


def _from_images(x: Tensor, shape: Shape) -> Tensor:
    return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).reshape(shape)
