"""The normalization on PyTorch, by the primitives of its own batch normalization.

Those know one group. Several groups take element-wise operations, in place where that is possible.
Under `torch.compile` the plain functions serve: the compiler fuses them itself.
"""

from collections.abc import Callable
from typing import Any

import keras
import torch
from torch.distributed.nn.functional import all_reduce

from brn.kernels.plain import AXES, Moments, SplitMean
from brn.types import Shape, Tensor

_FAR = 100.0


def read(variable: keras.Variable) -> Tensor:
    """Returns the present value of `variable`; it shares the variable's memory."""
    return variable.value


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


def shortcut(condition: Tensor, short: Callable[[], Any], general: Callable[[], Any]) -> Any:
    """Returns `general()`, which is right in any case: here, sizes are known when it matters."""
    return general()


def serves(x: Tensor) -> bool:
    """Returns whether these functions take `x`, `(groups, elements, channels, rest)`."""
    return x.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()


@torch.no_grad()
def moments(x: Tensor) -> Moments:
    """Returns the `Moments` of every group and channel, without a gradient.

    Args:
        x: `(groups, elements, channels, rest)`.
    """
    shape = (x.shape[0], 1, x.shape[2], 1)
    if x.shape[0] == 1:
        center, mean, variance = _moments_of_one(x)
    else:
        center = x.mean(AXES, keepdim=True)
        distance = x - center
        mean = distance.mean(AXES, keepdim=True)
        variance = distance.square_().mean(AXES, keepdim=True) - mean.square()
    mean, variance = mean.reshape(shape), variance.reshape(shape)
    return Moments(SplitMean(center, mean), variance.clamp_min_(0), None)


def _moments_of_one(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns `(center, mean of x - center, variance)` of a single group.

    On CPUs, PyTorch's sums lose the precision of means that are far from zero, in units of the
    standard deviation. `center` is 0 where none of them is.
    """
    mean, variance = torch.batch_norm_update_stats(_as_images(x), None, None, 0.0)
    far = x.device.type == "cpu" and bool((mean.square() > _FAR * variance).any())
    if not far:
        return 0.0, mean, variance
    center = x.mean(AXES, keepdim=True)
    center += (x - center).mean(AXES, keepdim=True)
    return center, *torch.batch_norm_update_stats(_as_images(x - center), None, None, 0.0)


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
    @staticmethod
    def forward(
        x: Tensor,
        center: Tensor,
        offset: Tensor,
        sigma_B: Tensor,
        r: Tensor,
        d: Tensor,
        gamma: Tensor,
        beta: Tensor,
    ) -> Tensor:
        slope, constant = gamma * r, gamma * d + beta
        if x.shape[0] > 1:
            slope = slope / sigma_B
            return (x - center).mul_(slope).add_(constant - offset * slope)
        flat = (value.expand(sigma_B.shape).reshape(-1) for value in (slope, constant))
        y, _, _ = torch.native_batch_norm(
            _as_images(_shifted(x, center)),
            *flat,
            offset.reshape(-1),
            sigma_B.reshape(-1).square(),
            training=False,
            momentum=0.0,
            eps=0.0,
        )
        return _from_images(y, x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, ctx.center, *values, _ = inputs
        ctx.save_for_backward(x, *values)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, offset, sigma_B, r, d, gamma = ctx.saved_tensors
        center = ctx.center
        if torch.is_grad_enabled():
            gradients = _differentiable_backward(dy, x, center, offset, sigma_B, r, gamma)
        elif x.shape[0] > 1:
            gradients = _backward(dy, x, center, offset, sigma_B, r, gamma)
        else:
            dx, *sums = torch.ops.aten.native_batch_norm_backward(
                _as_images(dy),
                _as_images(_shifted(x, center)),
                (gamma * r).expand(sigma_B.shape).reshape(-1),
                None,
                None,
                offset.reshape(-1),
                sigma_B.reshape(-1).reciprocal(),
                True,
                0.0,
                [True, True, True],
            )
            gradients = _from_images(dx, x.shape), *(total.reshape(sigma_B.shape) for total in sums)
        dx, total_dy_x, total_dy = gradients
        dgamma = (r * total_dy_x + d * total_dy).sum(0, keepdim=True)
        return dx, None, None, None, None, None, dgamma, total_dy.sum(0, keepdim=True)


def _backward(
    dy: Tensor, x: Tensor, center: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor, gamma: Tensor
) -> Any:
    """Section 3 for several groups, with `x0 = (x - mu_B) / sigma_B`.

    Returns `gamma r / sigma_B (dy - mean(dy) - x0 mean(dy x0))`, `sum(dy x0)` and `sum(dy)`.
    """
    count = x.shape[1] * x.shape[3]
    distance = x - center
    total_dy = dy.sum(AXES, keepdim=True)
    total_dy_x = ((distance * dy).sum(AXES, keepdim=True) - offset * total_dy) / sigma_B
    slope, shrinkage = gamma * r / sigma_B, total_dy_x / (count * sigma_B)
    dx = distance.mul_(-slope * shrinkage).addcmul_(dy, slope)
    return dx.add_(slope * (offset * shrinkage - total_dy / count)), total_dy_x, total_dy


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
