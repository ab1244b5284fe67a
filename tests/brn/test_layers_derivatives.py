"""Derivatives forwards, of second order, and of many directions at once."""

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, numpy, perturb, tensor
from keras import ops

import brn

# PyTorch's own, when it first differentiates forwards.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`")
KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "normalization": brn.BatchNormalization,
}


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of one of the two layers."""
    return KINDS[request.param]


@pytest.fixture(params=[None, 2])
def case(request, build, rng):
    """A scalar function of what a layer makes of its input, an input, and a direction."""
    x, weights, direction = rng.normal(1.0, 2.0, (3, *SHAPE))
    layer = perturb(build(microbatch_size=request.param), x)
    weights = tensor(weights)

    def scalar(x):
        with keras.StatelessScope():
            y = layer(x, training=True)
        return ops.sum(weights * y**2)

    return scalar, tensor(x), tensor(direction)


def gradient(function):
    if BACKEND == "jax":
        import jax

        return jax.grad(function)
    if BACKEND == "torch":
        import torch

        def run(x):
            x = x if x.requires_grad else x.detach().clone().requires_grad_()
            return torch.autograd.grad(function(x), x, create_graph=True)[0]

        return run
    import tensorflow as tf

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)

    return run


def forwards(function, x, direction):
    """The derivative of `function` in a direction, taken forwards."""
    if BACKEND == "jax":
        import jax

        return jax.jvp(function, [x], [direction])[1]
    if BACKEND == "torch":
        import torch

        return torch.func.jvp(function, (x,), (direction,))[1]
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
        y = function(x)
    return accumulator.jvp(y)


def ways(function):
    """`function` as it is and, on TensorFlow, as graphs."""
    if BACKEND != "tensorflow":
        return [function]
    import tensorflow as tf

    return [function, tf.function(function, autograph=False)]


def assert_close(got, expected):
    got, expected = numpy(got), numpy(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_derivative_forwards_is_that_of_the_gradient(case):
    scalar, x, direction = case
    expected = ops.sum(gradient(scalar)(x) * direction)
    for function in ways(scalar):
        assert_close(forwards(function, x, direction), expected)
    for derivative in ways(lambda x: forwards(scalar, x, direction)):
        assert_close(derivative(x), expected)


def test_the_derivative_of_the_gradient_forwards_is_that_backwards(case):
    scalar, x, direction = case
    expected = gradient(lambda x: ops.sum(gradient(scalar)(x) * direction))(x)
    take_gradient = gradient(scalar)
    if BACKEND == "torch":
        import torch

        take_gradient = torch.func.grad(scalar)
    for derivative in ways(lambda x: forwards(take_gradient, x, direction)):
        assert_close(derivative(x), expected)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere, weights are differentiated alike")
def test_the_derivative_forwards_by_a_weight(build, rng):
    import tensorflow as tf

    x, weights = rng.normal(1.0, 2.0, (2, *SHAPE)).astype("float32")
    layer = perturb(build(momentum=1.0), x)
    gamma, direction = layer.gamma.value, tf.constant(rng.normal(size=5), "float32")

    def scalar():
        return tf.reduce_sum(weights * layer(x, training=True))

    with tf.GradientTape() as tape:
        y = scalar()
    expected = tf.reduce_sum(tape.gradient(y, gamma) * direction)
    for function in ways(scalar):
        assert_close(forwards_by(gamma, direction, function), expected)


def forwards_by(variable, direction, function):
    import tensorflow as tf

    with tf.autodiff.ForwardAccumulator(variable, direction) as accumulator:
        y = function()
    return accumulator.jvp(y)


if BACKEND == "torch":
    import torch
    from torch.autograd import forward_ad

    def test_dual_numbers(case):
        scalar, x, direction = case
        expected = ops.sum(gradient(scalar)(x) * direction)
        second = gradient(lambda x: ops.sum(gradient(scalar)(x) * direction))(x)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x.detach().requires_grad_(), direction)
            y = scalar(dual)
            assert_close(forward_ad.unpack_dual(y).tangent, expected)
            dx = torch.autograd.grad(y, dual)[0]
            assert_close(forward_ad.unpack_dual(dx).tangent, second)

    def test_many_gradients_at_once(case, rng):
        scalar, x, _ = case
        x = x.detach().requires_grad_()
        upstream = tensor(rng.normal(size=3))
        (dx,) = torch.autograd.grad(scalar(x), x, upstream, is_grads_batched=True)
        expected = gradient(scalar)(x)
        for got, factor in zip(dx, upstream, strict=True):
            assert_close(got, factor * expected)

    def test_vectorized_hessians(case):
        scalar, x, direction = case
        hessian = torch.autograd.functional.hessian(scalar, x, vectorize=True)
        product = (hessian * direction).sum((3, 4, 5))
        assert_close(product, gradient(lambda x: ops.sum(gradient(scalar)(x) * direction))(x))
