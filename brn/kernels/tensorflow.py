"""The normalization on TensorFlow, by the primitives of its own fused batch normalization.

On CPUs those know a single group, with the channels last. Whatever else there is (several groups,
other axes, GPUs) takes element-wise operations with the same hand-derived gradient; on CPUs XLA
compiles them, each to one pass over the activations.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager.forwardprop_util import pack_tangents

from brn.backend.tensorflow import compiled_by_xla
from brn.kernels.plain import AXES, Moments, SplitMean
from brn.types import Tensor

_FAR = 100.0
_SAMPLE = 16


def serves(x: Tensor, valid: Tensor | None) -> bool:
    """Returns whether these functions take `x`, `(groups, elements, channels, rest)`.

    They know no masks.
    """
    return valid is None and x.dtype == tf.float32


def moments(x: Tensor) -> Moments:
    """Returns the `Moments` of every group and channel, without a gradient.

    Args:
        x: `(groups, elements, channels, rest)`.
    """
    x = tf.stop_gradient(x)
    about_zero = _fused_moments if _fused(x) else _moments
    if compiled_by_xla():
        # Of a sixteenth of the elements, which is within a few sigma_B of the mean.
        sample = x[:, : tf.maximum(tf.shape(x)[1] // _SAMPLE, 1)]
        center = tf.reduce_mean(sample, AXES, keepdims=True)
        return _finished(x, center, *about_zero(x - center))

    mean, variance = about_zero(x)

    def far() -> tuple[Tensor, ...]:
        center = tf.reduce_mean(x, AXES, keepdims=True)
        center += tf.reduce_mean(x - center, AXES, keepdims=True)
        return center, *about_zero(x - center)

    # Such sums lose the precision of means that are far from zero, in units of the standard
    # deviation.
    is_far = tf.reduce_any(tf.square(mean) > _FAR * variance)
    return _finished(x, *tf.cond(is_far, far, lambda: (tf.zeros_like(mean), mean, variance)))


def _finished(x: Tensor, center: Tensor, offset: Tensor, variance: Tensor) -> Moments:
    if None not in x.shape:
        return Moments(SplitMean(center, offset), variance, None)
    # A batch of unknown size may be empty: its count is 0, and its statistics are not NaN.
    count = tf.fill(tf.shape(variance), tf.cast(tf.shape(x)[1] * tf.shape(x)[3], x.dtype))
    center, offset, variance = (
        tf.math.multiply_no_nan(value, tf.sign(count)) for value in (center, offset, variance)
    )
    return Moments(SplitMean(center, offset), variance, count)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance of every group, of the shape `(groups, 1, channels, 1)`."""
    mean = tf.reduce_mean(x, AXES, keepdims=True)
    return mean, tf.reduce_mean(tf.math.squared_difference(x, mean), AXES, keepdims=True)


def _fused_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and biased variance of a single group, of the shape `(1, 1, channels, 1)`."""
    x = _as_images(x)
    per_channel = tf.zeros([x.shape[3]])
    _, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=per_channel, offset=per_channel, mean=per_channel, variance=per_channel
    )
    count = tf.cast(tf.shape(x)[0], x.dtype)
    # Unbiased, of `count - 1` degrees of freedom.
    variance = tf.maximum(variance * ((count - 1) / count), 0)
    return mean[None, None, :, None], variance[None, None, :, None]


def normalize(
    x: Tensor, mu_B: SplitMean, sigma_B: Tensor, r: Tensor, d: Tensor, gamma: Tensor, beta: Tensor
) -> Tensor:
    """Returns `gamma * ((x - mu_B) / sigma_B * r + d) + beta`, as `brn.kernels.plain.normalize`.

    In the gradient, `mu_B` and `sigma_B` are the functions of `x` that they are, `r` and `d`
    constants. It keeps `x` and numbers per channel, and has a gradient itself.
    """
    per_channel = tf.ones([1, 1, x.shape[2], 1], x.dtype)
    statistics = (mu_B.center, mu_B.offset, sigma_B, r * per_channel, d * per_channel)
    return _normalize(x, *statistics, gamma * per_channel, beta * per_channel)


def _with_gradient(function: Callable[..., Any], gradient: Callable[..., Any]) -> Any:
    """Returns `function`, with `gradient` in place of the derivatives of what it is made of.

    Those of any mode: a forward accumulator would see through `tf.custom_gradient`, and take the
    statistics for constants, if the operations inside had tangents.

    Args:
        function: of tensors, to a tensor or a tuple of them.
        gradient: of the gradients of the outputs, then the inputs, to the gradients of the inputs.
    """

    @tf.custom_gradient
    def run(*inputs: Tensor) -> Any:
        def backward(*upstream: Tensor) -> Any:
            # Identities: in the gradient of a branch of `tf.cond`, functions and further gradients
            # reach tensors of this gradient only.
            return gradient(*upstream, *map(tf.identity, inputs))

        return function(*map(tf.stop_gradient, inputs)), backward

    in_graph = tf.function(run, autograph=False)

    def call(*inputs: Tensor) -> Any:
        # A function by itself: inside a graph, accumulators heed only the gradients of functions.
        in_graph_forwards = not tf.executing_eagerly() and pack_tangents(inputs).tangents
        return (in_graph if in_graph_forwards else run)(*inputs)

    return call


def _forward(
    x: Tensor,
    center: Tensor,
    offset: Tensor,
    sigma_B: Tensor,
    r: Tensor,
    d: Tensor,
    gamma: Tensor,
    beta: Tensor,
) -> Tensor:
    if not _fused(x):
        slope = gamma * r / sigma_B
        return _affine(x, center, slope, gamma * d + beta - offset * slope)
    y, *_ = tf.raw_ops.FusedBatchNormV3(
        x=_as_images(_shifted(x, center)),
        scale=(gamma * r)[0, 0, :, 0],
        offset=(gamma * d + beta)[0, 0, :, 0],
        mean=offset[0, 0, :, 0],
        variance=tf.square(sigma_B)[0, 0, :, 0],
        epsilon=0.0,
        is_training=False,
    )
    return tf.reshape(y, tf.shape(x))


def _gradient_of_forward(
    dy: Tensor,
    x: Tensor,
    center: Tensor,
    offset: Tensor,
    sigma_B: Tensor,
    r: Tensor,
    d: Tensor,
    gamma: Tensor,
    beta: Tensor,
) -> Any:
    dx, total_dy_x, total_dy = _gradients(dy, x, gamma, center, offset, sigma_B, r)
    dgamma = tf.reduce_sum(r * total_dy_x + d * total_dy, 0, keepdims=True)
    dbeta = tf.reduce_sum(total_dy, 0, keepdims=True)
    return dx, None, None, None, None, None, dgamma, dbeta


@tf.function(autograph=False)
def _gradient_of_gradients(*tensors: Tensor) -> Any:
    # A graph of its own: tapes see nothing while a forward accumulator transposes a gradient.
    upstream, (dy, x, gamma, *statistics) = tensors[:3], tensors[3:]
    again = _differentiable_backward(dy, x, gamma, *statistics)
    gradients = tf.gradients(again, [dy, x, gamma], grad_ys=upstream)
    return *gradients, *(None for _ in statistics)


def _either_backward(dy: Tensor, x: Tensor, *others: Tensor) -> Any:
    return (_fused_backward if _fused(x) else _backward)(dy, x, *others)


_normalize = _with_gradient(_forward, _gradient_of_forward)
_gradients = _with_gradient(_either_backward, _gradient_of_gradients)


def _fused_backward(
    dy: Tensor, x: Tensor, gamma: Tensor, center: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor
) -> Any:
    dx, total_dy_x, total_dy, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=_as_images(dy),
        x=_as_images(_shifted(x, center)),
        scale=(gamma * r)[0, 0, :, 0],
        reserve_space_1=offset[0, 0, :, 0],
        reserve_space_2=tf.square(sigma_B)[0, 0, :, 0],
        reserve_space_3=tf.zeros([0]),
        epsilon=0.0,
    )
    return (
        tf.reshape(dx, tf.shape(x)),
        total_dy_x[None, None, :, None],
        total_dy[None, None, :, None],
    )


def _backward(
    dy: Tensor, x: Tensor, gamma: Tensor, center: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor
) -> Any:
    """Section 3, with `x0 = (x - mu_B) / sigma_B`.

    Returns `gamma r / sigma_B (dy - mean(dy) - x0 mean(dy x0))`, `sum(dy x0)` and `sum(dy)`.
    """
    total_dy = tf.reduce_sum(dy, AXES, keepdims=True)
    total_dy_x = tf.reduce_sum(dy * _shifted(x, center), AXES, keepdims=True)
    total_dy_x = (total_dy_x - offset * total_dy) / sigma_B
    slope, shrinkage = gamma * r / sigma_B, total_dy_x / (_count(x) * sigma_B)
    constant = slope * (offset * shrinkage - total_dy / _count(x))
    dx = _sum_of_two(dy, slope, x, center, -slope * shrinkage, constant)
    return dx, total_dy_x, total_dy


def _one_pass(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets XLA compile a function where it would be several passes over memory otherwise.

    What it returns has the shape of its first argument.
    """
    arguments = [tf.TensorSpec([None] * 4, tf.float32)] * function.__code__.co_argcount
    compiled = tf.function(function, arguments, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def call(*tensors: Tensor) -> Tensor:
        if compiled_by_xla() or _on_gpu():
            return function(*tensors)
        result = compiled(*tensors)
        result.set_shape(tensors[0].shape)
        return result

    return call


@_one_pass
def _affine(x: Tensor, center: Tensor, slope: Tensor, constant: Tensor) -> Tensor:
    return (x - center) * slope + constant


@_one_pass
def _sum_of_two(
    dy: Tensor, slope_dy: Tensor, x: Tensor, center: Tensor, slope_x: Tensor, constant: Tensor
) -> Tensor:
    return dy * slope_dy + (x - center) * slope_x + constant


def _differentiable_backward(
    dy: Tensor, x: Tensor, gamma: Tensor, center: Tensor, offset: Tensor, sigma_B: Tensor, r: Tensor
) -> Any:
    """The same, with statistics that are functions of `x`."""
    distance = x - center
    offset = _with_gradient_of(offset, tf.reduce_mean(distance, AXES, keepdims=True))
    variance = tf.reduce_mean(tf.square(distance - offset), AXES, keepdims=True)
    sigma_B = tf.sqrt(_with_gradient_of(tf.square(sigma_B), variance))
    x0 = (distance - offset) / sigma_B
    total_dy_x = tf.reduce_sum(dy * x0, AXES, keepdims=True)
    total_dy = tf.reduce_sum(dy, AXES, keepdims=True)
    dx = gamma * r / sigma_B * (dy - (total_dy + x0 * total_dy_x) / _count(x))
    return dx, total_dy_x, total_dy


def _with_gradient_of(value: Tensor, function: Tensor) -> Tensor:
    return tf.stop_gradient(value) + (function - tf.stop_gradient(function))


def _count(x: Tensor) -> Tensor:
    return tf.cast(tf.shape(x)[1] * tf.shape(x)[3], x.dtype)


def _shifted(x: Tensor, center: Tensor) -> Tensor:
    if compiled_by_xla():
        return x - center
    return tf.cond(tf.reduce_any(center != 0), lambda: x - center, lambda: x)


def _fused(x: Tensor) -> bool | Tensor:
    return x.shape[0] == 1 and x.shape[3] == 1 and not _on_gpu()


@functools.cache
def _on_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _as_images(x: Tensor) -> Tensor:
    """Returns a single group, channels last, as images of one pixel."""
    return tf.reshape(x, (-1, 1, 1, x.shape[2]))
