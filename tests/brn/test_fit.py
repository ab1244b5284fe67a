"""Through `fit`, compiled as Keras compiles it on this backend."""

import keras
import numpy as np
import pytest
from harness import mirror, numpy, perturb, state, tensor

import brn
from brn.schedules import Ramp

KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "normalization": brn.BatchNormalization,
}
SHAPE = (10, 2, 5)
"""Ten examples: batches of 4, 4 and 2."""


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of one of the two layers."""
    return KINDS[request.param]


def fit(model, x, y=None, learning_rate=0.0, **arguments):
    """Train on batches of 4, in order."""
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    y = np.zeros_like(x) if y is None else y
    data = (x.astype("float32"), y.astype("float32"))
    return model.fit(*data, batch_size=4, shuffle=False, verbose=0, **arguments)


@pytest.mark.parametrize("microbatch_size", [3, 2**40])
def test_statistics_through_compiled_training_are_the_references(rng, build, microbatch_size):
    """Two epochs of ragged batches in ragged microbatches, of a batch size not known in advance."""
    x = rng.normal(2.0, 3.0, SHAPE)
    layer = perturb(build(momentum=0.8, microbatch_size=microbatch_size), x)
    reference = mirror(layer)
    fit(keras.Sequential([keras.Input(SHAPE[1:]), layer]), x, epochs=2)
    for _ in range(2):
        for first in (0, 4, 8):
            reference.update(x[first : first + 4])
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-5)
    if isinstance(layer, brn.BatchRenormalization):
        assert int(numpy(layer.step)) == 6


def test_the_bounds_move_while_training(rng):
    """keras-contrib's stayed at 1 and 0: silently, plain batch normalization.

    The model is the layer alone, so that the loss of a step, the mean square of its output, is
    the square of the bound with which the step was computed.
    """
    x = np.tile([[-5.0], [5.0]], (6, 1))
    layer = brn.BatchRenormalization(
        momentum=1.0, epsilon=1e-12, d_max=0, r_max=Ramp(1, 3, begin=1, finish=5)
    )
    losses = []

    class Losses(keras.callbacks.Callback):
        """Undoes the running mean that Keras reports."""

        def on_epoch_begin(self, epoch, logs=None):
            self.total = 0.0

        def on_train_batch_end(self, batch, logs):
            losses.append(logs["loss"] * (batch + 1) - self.total)
            self.total = logs["loss"] * (batch + 1)

    fit(keras.Sequential([keras.Input((1,)), layer]), x, epochs=3, callbacks=[Losses()])
    bounds = [1, 1, 1.5, 2, 2.5, 3, 3, 3, 3]
    np.testing.assert_allclose(losses, np.square(bounds), rtol=1e-4)
    assert [float(numpy(bound)) for bound in layer.clipping_bounds()] == [3, 0]


def test_frozen_layers_stand_still(rng, build):
    x = rng.normal(2.0, 3.0, SHAPE)
    layer = perturb(build(), x)
    layer.trainable = False
    before = layer.get_weights()
    model = keras.Sequential([keras.Input(SHAPE[1:]), layer, keras.layers.Dense(5)])
    kernel = numpy(model.layers[-1].kernel)
    fit(model, x, learning_rate=0.1)
    assert (numpy(model.layers[-1].kernel) != kernel).any()
    for value, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_evaluate_and_predict_change_nothing(rng, build):
    x = rng.normal(2.0, 3.0, SHAPE).astype("float32")
    layer = perturb(build(microbatch_size=3), x)
    before, expected = layer.get_weights(), mirror(layer).inference(x)
    model = keras.Sequential([keras.Input(SHAPE[1:]), layer])
    model.compile(loss="mse")
    loss = model.evaluate(x, expected, batch_size=4, verbose=0)
    assert loss == pytest.approx(0, abs=1e-8)
    y = model.predict(x, batch_size=4, verbose=0)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for value, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_gamma_and_beta_are_trained_by_the_gradients_of_the_reference(rng, build):
    x, target = rng.normal(2.0, 3.0, (2, 4, 2, 5))
    layer = perturb(build(), x)
    reference = mirror(layer)
    residual = reference.forward(x).y - target
    _, dgamma, dbeta = reference.backward(x, 2 * residual / residual.size)
    fit(keras.Sequential([keras.Input((2, 5)), layer]), x, target, learning_rate=0.5)
    np.testing.assert_allclose(numpy(layer.gamma), reference.gamma - 0.5 * dgamma, rtol=1e-4)
    np.testing.assert_allclose(numpy(layer.beta), reference.beta - 0.5 * dbeta, rtol=1e-4)


def test_masks_through_fit(rng, build):
    """The second batch is masked entirely, and does not count as a step."""
    x = rng.normal(2.0, 3.0, SHAPE)
    mask = rng.random(SHAPE[:2]) < 0.7
    mask[4:8] = False
    x[~mask] = -1.0
    layer = perturb(build(momentum=0.8), x)
    reference = mirror(layer)
    model = keras.Sequential([keras.Input(SHAPE[1:]), keras.layers.Masking(-1.0), layer])
    model.add(keras.layers.Dense(1))
    fit(model, x, np.zeros((10, 2, 1)))
    for first in (0, 4, 8):
        reference.update(x[first : first + 4], mask[first : first + 4])
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-5)
    if isinstance(layer, brn.BatchRenormalization):
        assert int(numpy(layer.step)) == 2


def test_a_layer_called_twice_moves_twice(rng, build):
    """Two forward passes in a step, as reinforcement learning has them: each moves the averages."""
    x = rng.normal(2.0, 3.0, (2, 4, 2, 5))
    layer = perturb(build(momentum=0.8), x[0])
    reference = mirror(layer)
    inputs = [keras.Input((2, 5)), keras.Input((2, 5))]
    outputs = keras.layers.add([layer(tensor) for tensor in inputs])
    model = keras.Model(inputs, outputs)
    y = model([tensor(value) for value in x], training=True)
    expected = reference.update(x[0]).y + reference.update(x[1]).y
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-5)


def test_mixed_precision(rng):
    x = rng.normal(2.0, 3.0, SHAPE)
    layer = perturb(
        brn.BatchRenormalization(
            momentum=0.8, r_max=2, d_max=1.5, microbatch_size=3, dtype="mixed_float16"
        ),
        x,
    )
    reference = mirror(layer)
    fit(keras.Sequential([keras.Input(SHAPE[1:]), layer]), x)
    for first in (0, 4, 8):
        reference.update(x[first : first + 4])
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-3)
