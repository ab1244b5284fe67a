"""Minibatches that have no finite statistics, and averages that start at zero."""

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, mirror, numpy, perturb, state, tensor, training_pass

import brn

KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "renormalization at its bounds' start": lambda **kw: brn.BatchRenormalization(
        r_max=1.0, d_max=0.0, **kw
    ),
    "normalization": brn.BatchNormalization,
}
CHANNEL = 2


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of a layer."""
    return KINDS[request.param]


def assert_state(layer, reference):
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-4)
    if isinstance(layer, brn.BatchRenormalization):
        assert int(numpy(layer.step)) == reference.step


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
@pytest.mark.parametrize("microbatch_size", [None, 2])
def test_statistics_that_are_not_finite_do_not_enter_the_averages(
    build, rng, value, microbatch_size
):
    """One channel of the second microbatch: the others count, and the next minibatch is as ever."""
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    layer = perturb(build(momentum=0.8, microbatch_size=microbatch_size), x)
    reference = mirror(layer)
    bad, counts = x.copy(), np.ones(SHAPE, bool)
    bad[2, 0, CHANNEL] = value
    counts[slice(None) if microbatch_size is None else slice(2, 4), :, CHANNEL] = False
    training_pass(layer, bad, upstream)
    reference.update(x, counts)
    assert_state(layer, reference)
    y = training_pass(layer, x, upstream).y
    np.testing.assert_allclose(y, reference.update(x).y, rtol=1e-4, atol=1e-4)
    assert_state(layer, reference)


def test_a_minibatch_of_nan_changes_nothing(build, rng):
    x, upstream = rng.normal(size=(2, *SHAPE))
    layer = perturb(build(momentum=0.8), x)
    before = layer.get_weights()
    training_pass(layer, x * np.nan, upstream)
    for value, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_inputs_without_elements_change_nothing(build):
    layer = perturb(build(momentum=0.8), np.zeros(SHAPE))
    before = layer.get_weights()
    assert training_pass(layer, np.zeros((8, 0, 5)), np.zeros((8, 0, 5))).y.shape == (8, 0, 5)
    for value, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_averages_that_start_at_zero(build):
    """A constant channel is at its mean already: 0, not 0 / 0, in training and in inference."""
    layer = build(moving_variance_initializer="zeros")
    x = np.zeros(SHAPE)
    for training in (True, False):
        got = training_pass(layer, x, np.ones(SHAPE), training=training)
        np.testing.assert_array_equal(got.y, x)
        assert np.isfinite(got.dx).all()


def test_a_deviation_below_the_smallest_is_the_smallest(rng):
    x = rng.normal(size=SHAPE)
    layer = perturb(brn.BatchRenormalization(epsilon=0.25), x)
    layer.moving_stddev.assign(np.zeros(5))
    expected = (x - numpy(layer.moving_mean)) / 0.5 * numpy(layer.gamma) + numpy(layer.beta)
    np.testing.assert_allclose(numpy(layer(tensor(x))), expected, rtol=1e-5, atol=1e-5)


def test_mixed_precision_survives_a_skipped_step(build, rng):
    """The second of three minibatches overflows, and the scaled loss with it."""
    x = rng.normal(2.0, 3.0, (12, 5)).astype("float32")
    layer = perturb(build(momentum=0.8, dtype="mixed_float16"), x)
    reference = mirror(layer)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0)), "mse")
    bad = x.copy()
    bad[4:8] = np.inf
    model.fit(bad, np.zeros_like(x), batch_size=4, shuffle=False, verbose=0)
    for first in (0, 8):
        reference.update(x[first : first + 4])
    assert_state(layer, reference)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert float(numpy(model.optimizer.dynamic_scale)) == 2.0**14


if BACKEND == "torch":

    def test_passes_of_both_kinds_before_one_gradient(build, rng):
        """A consistency loss: the training pass moves what the inference pass used."""
        import torch

        x = rng.normal(2.0, 3.0, SHAPE)
        layers = [perturb(build(), x) for _ in range(2)]
        inputs = [tensor(x).requires_grad_() for _ in range(2)]
        together = layers[0](inputs[0]) ** 2 + layers[0](inputs[0], training=True) ** 2
        together.sum().backward()
        for training in (False, True):
            (layers[1](inputs[1], training=training) ** 2).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        torch.testing.assert_close(layers[0].gamma.value.grad, layers[1].gamma.value.grad)
