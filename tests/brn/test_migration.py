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


def test_a_fully_masked_channel_moves_the_averages_of_keras(x):
    mask = np.ones(SHAPE[:2])
    mask[:, 0] = 0
    theirs = keras.layers.BatchNormalization(momentum=0.5, axis=1)
    ours = brn.BatchNormalization(momentum=0.5, axis=1)
    for layer, mean, variance in ((theirs, 1.0, 0.5), (ours, 2.0, 1.0)):
        layer.build(SHAPE)
        layer.moving_mean.assign(np.full(SHAPE[1], 2.0))
        train(layer, x, mask=tensor(mask, "bool"))
        assert (numpy(layer.moving_mean)[0], numpy(layer.moving_variance)[0]) == (mean, variance)


class TestIfYouKnowPyTorch:
    def test_momentum_is_the_old_averages_share(self):
        layer = brn.BatchNormalization(momentum=0.9)
        train(layer, np.full((2, 1), 10.0))
        assert numpy(layer.moving_mean)[0] == pytest.approx(1.0)  # 0.1 of the new one

    def test_features_are_on_the_last_axis(self, rng):
        images = rng.normal(size=(2, 3, 4, 5))  # three channels, five columns
        for arguments, features in (({}, 5), ({"axis": 1}, 3)):
            layer = brn.BatchRenormalization(**arguments)
            train(layer, images)
            assert layer.gamma.shape == (features,)

    @pytest.mark.skipif(BACKEND != "torch", reason="layers are modules on PyTorch only")
    def test_train_and_eval_have_no_effect(self, x):
        layer = brn.BatchRenormalization()
        layer.build(SHAPE)
        for mode in (layer.eval, layer.train):
            mode()
            np.testing.assert_allclose(numpy(layer(tensor(x))) * (1 + 1e-3) ** 0.5, x, rtol=1e-2)
        layer.eval()
        train(layer, x)
        assert int(numpy(layer.step)) == 1


class TestAveragesOfOthers:
    def test_epsilon_after_dividing_by_r_squared(self):
        """sb3-contrib and sbx, of which this is the arithmetic, from mean 0 and variance 1."""
        x, epsilon = 0.001 * np.array([[1.0], [-1.0]]), 1e-3
        variance = x.var()
        r = np.clip(np.sqrt((variance + epsilon) / (1.0 + epsilon)), 1 / 3, 3)
        theirs = x / np.sqrt(variance / r**2 + epsilon)
        ours = train(brn.BatchRenormalization(r_max=3, d_max=5, epsilon=epsilon), x)
        assert theirs.std() == pytest.approx(0.0315, abs=5e-5)
        assert ours.std() == pytest.approx(0.0105, abs=5e-5)

    def test_haiku(self, rng):
        """Its debiased mean after each of three minibatches, by its own rule."""
        layer, hidden = brn.BatchRenormalization(momentum=0.9, bias_correction=True), 0.0
        for step in range(1, 4):
            x = rng.normal(step, 1.0, (8, 2))
            hidden = 0.9 * hidden + 0.1 * x.mean(0)
            train(layer, x)
            expected = hidden / (1 - 0.9**step)
            np.testing.assert_allclose(numpy(layer.moving_mean), expected, rtol=1e-5)

    @pytest.mark.skipif(
        BACKEND != "tensorflow" or importlib.util.find_spec("tf_keras") is None,
        reason="tf_keras runs on TensorFlow, and comes with the test extra",
    )
    def test_tf_keras_averages_the_unbiased_variance(self):
        import tf_keras

        x = np.array([0.0, 2.0]).reshape(2, 1, 1, 1)
        arguments = {"momentum": 0.5, "moving_variance_initializer": "zeros"}
        for layer, variance in (
            (tf_keras.layers.BatchNormalization(**arguments), 1.0),
            (brn.BatchNormalization(**arguments), 0.5),
        ):
            train(layer, x)
            assert float(layer.moving_variance.numpy()[0]) == pytest.approx(variance)


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
    def test_sbx(self):
        """Its bounds hold where the count of steps, from 0, has reached `warm_up_steps`."""
        schedule = Ramp(1.0, 3.0, begin=100_000, finish=100_000)
        assert [float(schedule(step)) for step in (99_999, 100_000)] == [1, 3]

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
