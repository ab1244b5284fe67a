"""What holds of Algorithm 1 whatever the numbers."""

import numpy as np
import pytest
from harness import ONCE, SHAPE, mirror, moments, numpy, perturb, tensor, training_pass

import brn

UNCLIPPED = {"r_max": float("inf"), "d_max": float("inf")}


@pytest.mark.parametrize("microbatch_size", [None, 1, 4])
def test_unclipped_training_is_inference(rng, microbatch_size):
    """The paper's motivation: an example's output does not depend on the rest of its minibatch."""
    x = rng.normal(2.0, 3.0, SHAPE)
    layer = perturb(brn.BatchRenormalization(microbatch_size=microbatch_size, **UNCLIPPED), x)
    inference = numpy(layer(tensor(x), training=False))
    np.testing.assert_allclose(inference, mirror(layer).inference(x), rtol=1e-5, atol=1e-5)
    training = numpy(layer(tensor(x), training=True))
    np.testing.assert_allclose(training, inference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bounds", [UNCLIPPED, {"r_max": 2.0, "d_max": 1.5}])
def test_the_gradient_is_orthogonal_to_ones_and_to_the_inputs(rng, bounds):
    """Section 3: sum(dx) = 0, and sum(x dx) = 0 up to epsilon."""
    x, upstream = rng.normal(size=(2, *SHAPE))
    layer = perturb(brn.BatchRenormalization(epsilon=1e-7, **bounds), x)
    dx = training_pass(layer, x, upstream).dx
    assert (np.abs(dx).sum((0, 1)) > 0.1).all()
    np.testing.assert_allclose(dx.sum((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose((x * dx).sum((0, 1)), 0, atol=1e-4)


def test_the_corrections_are_constants_to_the_gradient(rng):
    """Unclipped, a gradient through r and d would be that of inference, gamma / sigma."""
    x, upstream = rng.normal(size=(2, *SHAPE))
    layer = perturb(brn.BatchRenormalization(**UNCLIPPED), x)
    through = upstream * numpy(layer.gamma) / numpy(layer.moving_stddev)
    dx = training_pass(layer, x, upstream).dx
    assert np.abs(dx - through).max() > 0.1


def test_scaling_inputs_and_statistics_changes_nothing(rng):
    x, upstream = rng.normal(size=(2, *SHAPE))
    passes = []
    for factor in (1.0, 1024.0):
        layer = brn.BatchRenormalization(epsilon=1e-12, r_max=2, d_max=1.5)
        layer = perturb(layer, factor * x)
        done = training_pass(layer, factor * x, upstream)
        passes.append((done.y, factor * done.dx, done.dgamma, numpy(layer.moving_mean) / factor))
    for small, large in zip(*passes, strict=True):
        np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [[2, 0, 1, 4, 5, 3], [3, 4, 5, 0, 1, 2]])
def test_the_order_of_examples_in_a_microbatch_and_of_microbatches_is_free(rng, order):
    x, upstream = rng.normal(size=(2, *SHAPE))
    layers = [
        perturb(brn.BatchRenormalization(r_max=2, d_max=1.5, microbatch_size=3), x)
        for _ in range(2)
    ]
    straight = training_pass(layers[0], x, upstream, how=ONCE)
    permuted = training_pass(layers[1], x[order], upstream[order], how=ONCE)
    np.testing.assert_allclose(permuted.y, straight.y[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(permuted.dx, straight.dx[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(permuted.dgamma, straight.dgamma, rtol=1e-4, atol=1e-5)
    for one, other in zip(*(layer.get_weights() for layer in layers), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_an_example_in_another_microbatch_changes_no_output(rng):
    """Microbatches are contiguous: 0 to 3 are together, 4 and 5 on their own."""
    x = rng.normal(size=SHAPE)
    other = x.copy()
    other[4] += 10.0
    outputs = []
    for inputs in (x, other):
        layer = brn.BatchRenormalization(r_max=1, d_max=0, microbatch_size=4)
        outputs.append(numpy(layer(tensor(inputs), training=True)))
    np.testing.assert_array_equal(outputs[0][:4], outputs[1][:4])
    assert (np.abs(outputs[0][4:] - outputs[1][4:]).max((1, 2)) > 0.1).all()


def test_bias_correction_replaces_the_initial_statistics(rng):
    """After one step the averages are that minibatch's, as the second step's r and d show."""
    x = rng.normal(7.0, 3.0, SHAPE)
    layer = brn.BatchRenormalization(bias_correction=True, **UNCLIPPED)
    layer(tensor(x), training=True)
    mu_B, sigma_B = moments(x)
    np.testing.assert_allclose(numpy(layer.moving_mean), mu_B, rtol=1e-5)
    np.testing.assert_allclose(numpy(layer.moving_stddev), sigma_B, rtol=1e-5)
    y = numpy(layer(tensor(x), training=True))
    np.testing.assert_allclose(y, (x - mu_B) / sigma_B, rtol=1e-4, atol=1e-4)


def test_the_averages_after_many_steps_are_the_statistics_of_the_data():
    """x = (1, 3) for ever: mu -> 2 and sigma -> sqrt(1 + epsilon), at the pace of momentum."""
    layer = brn.BatchRenormalization(momentum=0.5, epsilon=3.0, r_max=1, d_max=0)
    for _ in range(20):
        layer(tensor([[1.0], [3.0]]), training=True)
    np.testing.assert_allclose(numpy(layer.moving_mean), 2 - 2 * 0.5**20, rtol=1e-6)
    np.testing.assert_allclose(numpy(layer.moving_stddev), 2 - 0.5**20, rtol=1e-6)
