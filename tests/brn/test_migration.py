"""What docs/migration.md says of the other implementations; where they agree: test_layers_keras."""

import importlib.util

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, moments, numpy, tensor

import brn
from brn.schedules import Ramp

UNCLIPPED = {"r_max": float("inf"), "d_max": float("inf")}


@pytest.fixture
def x(rng):
    return rng.normal(2.0, 3.0, SHAPE)


def train(layer, x, **arguments):
    return numpy(layer(tensor(x), training=True, **arguments))


def normalized(x, epsilon=1e-3):
    mu_B, sigma_B = moments(x, epsilon=epsilon)
    return (x - mu_B) / sigma_B


def test_without_bounds_the_first_output_of_keras_is_its_input(x):
    theirs = train(keras.layers.BatchNormalization(renorm=True), x)
    np.testing.assert_allclose(theirs, x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        train(brn.BatchRenormalization(), x), normalized(x), rtol=1e-4, atol=1e-5
    )


def test_rmax_alone_leaves_r_without_a_lower_bound(x):
    small = normalized(x) / 100
    clipping = {"rmax": 3.0, "dmax": 0.0}
    theirs = train(keras.layers.BatchNormalization(renorm=True, renorm_clipping=clipping), small)
    np.testing.assert_allclose(theirs.std((0, 1)), small.std((0, 1)), rtol=1e-3)
    ours = train(brn.BatchRenormalization(r_max=3, d_max=0), small)
    np.testing.assert_allclose(ours, normalized(small) / 3, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_two_momenta_part_training_from_inference(x, momentum):
    """Unclipped, training outputs are inference outputs only where the momenta are the same."""
    layer = keras.layers.BatchNormalization(renorm=True, momentum=momentum, renorm_momentum=0.9)
    for drift in range(5):
        train(layer, x + drift)
    inference = numpy(layer(tensor(x)))
    difference = np.abs(train(layer, x) - inference).max()
    assert difference < 1e-4 if momentum == 0.9 else difference > 0.1


def test_keras_forgets_a_variance_that_was_loaded(x):
    layer = keras.layers.BatchNormalization(renorm=True)
    layer.build(x.shape)
    layer.moving_variance.assign(np.full(SHAPE[-1], 100.0))
    train(layer, x)
    # moving_stddev was 1 and moves by a hundredth towards that of the minibatch.
    expected = (0.99 + 0.01 * moments(x)[1]) ** 2 - 1e-3
    np.testing.assert_allclose(numpy(layer.moving_variance), expected, rtol=1e-5)


def test_the_floor_of_keras_shows_only_below_the_smallest_deviation(x):
    """From a moving deviation of 0: theirs is taken for sqrt(epsilon); ours clips to r_max."""
    theirs = keras.layers.BatchNormalization(
        renorm=True, epsilon=0.25, moving_variance_initializer="zeros"
    )
    np.testing.assert_allclose(train(theirs, x), x / 0.5, rtol=1e-4, atol=1e-5)
    ours = brn.BatchRenormalization(
        epsilon=0.25, moving_variance_initializer="zeros", r_max=4, d_max=0
    )
    np.testing.assert_allclose(train(ours, x), 4 * normalized(x, 0.25), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow broadcasts where others fail")
def test_a_mask_over_one_channel_fails_in_keras(x):
    x, mask = x[..., :1], tensor(np.ones(SHAPE[:2]), "bool")
    with pytest.raises(IndexError):
        train(keras.layers.BatchNormalization(), x, mask=mask)
    ours = train(brn.BatchNormalization(), x, mask=mask)
    np.testing.assert_allclose(ours, normalized(x), rtol=1e-4, atol=1e-5)


def test_a_fully_masked_batch_moves_the_averages_of_keras(x):
    mask = tensor(np.zeros(SHAPE[:2]), "bool")
    theirs = keras.layers.BatchNormalization(momentum=0.5)
    ours = brn.BatchNormalization(momentum=0.5)
    for layer, moved in ((theirs, 0.5), (ours, 1.0)):
        train(layer, x, mask=mask)
        np.testing.assert_allclose(numpy(layer.moving_variance), np.full(SHAPE[-1], moved))


def test_large_inputs_are_infinite_to_keras_in_mixed_precision():
    x = np.array([[1e5], [-1e5]])
    assert np.isnan(train(keras.layers.BatchNormalization(dtype="mixed_float16"), x)).all()
    ours = train(brn.BatchRenormalization(dtype="mixed_float16"), x)
    np.testing.assert_allclose(ours, [[1], [-1]], rtol=1e-3)


@pytest.mark.skipif(
    BACKEND != "tensorflow" or importlib.util.find_spec("tf_keras") is None,
    reason="tf_keras runs on TensorFlow, and comes with the test extra",
)
class TestVirtualBatches:
    # Of one channel; the groups of tf_keras are 0, 2 and 1, 3.
    X = np.array([[-1.0], [9.0], [1.0], [11.0]])

    def test_are_strided(self):
        import tf_keras

        theirs = train(tf_keras.layers.BatchNormalization(virtual_batch_size=2), self.X)
        order = [0, 2, 1, 3]
        ours = train(brn.BatchNormalization(microbatch_size=2), self.X[order])
        np.testing.assert_allclose(theirs[order], ours, rtol=1e-5)
        np.testing.assert_allclose(ours.ravel(), [-1, 1, -1, 1], rtol=1e-3)

    def test_have_one_correction_for_all_groups(self):
        """Unclipped, from mean 0 and deviation 1: Algorithm 1 gives the inputs back."""
        import tf_keras

        theirs = tf_keras.layers.BatchNormalization(
            virtual_batch_size=2, renorm=True, epsilon=1e-12
        )
        # The groups' means are 0 and 10, so that d is 5 for both.
        np.testing.assert_allclose(train(theirs, self.X).ravel(), [4, 4, 6, 6], rtol=1e-5)
        ours = brn.BatchRenormalization(microbatch_size=2, epsilon=1e-12, **UNCLIPPED)
        np.testing.assert_allclose(train(ours, self.X), self.X, rtol=1e-5)


class TestSchedulesOfOthers:
    def test_crossq(self):
        """sb3-contrib renormalizes where its count of steps, from 0, is above `warmup_steps`."""
        schedule = Ramp(1.0, 3.0, begin=100_001, finish=100_001)
        assert [float(schedule(step)) for step in (100_000, 100_001)] == [1, 3]

    def test_avalanche(self):
        """Its bound of r after 100 minibatches of 32, by its own rule."""
        bound = 1.0
        for _ in range(100):
            bound += 1e-4 * 32 if bound < 3.0 else 0.0
        schedule = Ramp(1.0, 3.0, begin=0, finish=2 / (32 * 1e-4))
        assert float(schedule(100)) == pytest.approx(bound)

    @pytest.mark.parametrize("step", [0, 5000, 12_345, 25_000, 40_000, 10**6])
    def test_batchrenorm(self, step):
        """The formulas of ludvb's package."""
        r_max, d_max = brn.paper_clipping()
        assert float(r_max(step)) == pytest.approx(np.clip(2 / 35000 * step + 25 / 35, 1, 3))
        assert float(d_max(step)) == pytest.approx(np.clip(5 / 20000 * step - 25 / 20, 0, 5))
