"""Identities with the layers of Keras and of tf_keras, step by step."""

import importlib.util

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, moments, numpy, perturb, state, tensor, training_pass

import brn

STEPS = 4


def batches(rng, shape=SHAPE):
    """Inputs and gradients of the output, of a distribution that drifts from step to step."""
    for step in range(STEPS):
        yield rng.normal(step, 1 + step, shape), rng.normal(size=shape)


def assert_equal_passes(ours, theirs, rtol=1e-5):
    for name in ("y", "dx", "dgamma", "dbeta"):
        value, wanted = getattr(ours, name), getattr(theirs, name)
        atol = rtol * max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(value, wanted, rtol, atol, err_msg=name)


def copy_weights(source, target, *names):
    for name in names:
        getattr(target, name).assign(numpy(getattr(source, name)))


@pytest.mark.parametrize(("shape", "axis"), [(SHAPE, -1), ((6, 5, 2), 1)])
def test_bounds_1_and_0_are_batch_normalization(rng, shape, axis):
    theirs = keras.layers.BatchNormalization(axis=axis, momentum=0.8)
    theirs.build(shape)
    ours = perturb(
        brn.BatchRenormalization(axis=axis, momentum=0.8, r_max=1, d_max=0), rng.random(shape)
    )
    copy_weights(ours, theirs, "gamma", "beta", "moving_mean")
    sigma = state(ours)[1]
    for x, upstream in batches(rng, shape):
        assert_equal_passes(training_pass(ours, x, upstream), training_pass(theirs, x, upstream))
        np.testing.assert_allclose(numpy(ours.moving_mean), numpy(theirs.moving_mean), rtol=1e-5)
        sigma = 0.8 * sigma + 0.2 * moments(x, axis)[1]
        np.testing.assert_allclose(numpy(ours.moving_stddev), sigma, rtol=1e-5)


def test_until_the_paper_relaxes_them_the_bounds_are_batch_normalization(rng):
    """The default layer in its first steps; Keras's default output there is its input."""
    theirs, ours = keras.layers.BatchNormalization(), brn.BatchRenormalization()
    for x, upstream in batches(rng):
        assert_equal_passes(training_pass(ours, x, upstream), training_pass(theirs, x, upstream))


@pytest.mark.parametrize(("shape", "axis"), [(SHAPE, -1), ((6, 5, 2), 1)])
@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_normalization_is_that_of_keras(rng, shape, axis, synchronized):
    """In output, gradient and state; on one device `synchronized` changes nothing."""
    arguments = {"axis": axis, "momentum": 0.8, "epsilon": 1e-2}
    theirs = keras.layers.BatchNormalization(**arguments)
    theirs.build(shape)
    ours = brn.BatchNormalization(synchronized=synchronized, **arguments)
    theirs.set_weights(perturb(ours, rng.random(shape)).get_weights())
    for x, upstream in batches(rng, shape):
        assert_equal_passes(training_pass(ours, x, upstream), training_pass(theirs, x, upstream))
        for weight, wanted in zip(ours.weights, theirs.weights, strict=True):
            assert weight.name == wanted.name
            np.testing.assert_allclose(numpy(weight), numpy(wanted), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            numpy(ours(tensor(x))), numpy(theirs(tensor(x))), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("through", ["get_weights", "weights_file"])
def test_weights_of_batch_normalization_go_both_ways(rng, tmp_path, ours_first, through):
    classes = [brn.BatchNormalization, keras.layers.BatchNormalization]
    source, target = (
        keras.Sequential([keras.Input(SHAPE[1:]), build()])
        for build in (classes if ours_first else reversed(classes))
    )
    written = [rng.uniform(0.5, 2, weight.shape) for weight in source.weights]
    source.set_weights(written)
    if through == "get_weights":
        target.set_weights(source.get_weights())
    else:
        source.save_weights(tmp_path / "model.weights.h5")
        target.load_weights(tmp_path / "model.weights.h5")
    x = rng.normal(size=SHAPE)
    for weight, value in zip(target.weights, written, strict=True):
        np.testing.assert_allclose(numpy(weight), value, rtol=1e-6)
    np.testing.assert_allclose(
        numpy(source(tensor(x))), numpy(target(tensor(x))), rtol=1e-5, atol=1e-6
    )


def test_batch_normalization_weights_are_refused_by_renormalization():
    """Loaded silently, a variance would be taken for a standard deviation."""
    source, target = brn.BatchNormalization(), brn.BatchRenormalization()
    source.build(SHAPE)
    target.build(SHAPE)
    with pytest.raises(ValueError, match="weight"):
        target.set_weights(source.get_weights())


@pytest.mark.parametrize("clipping", [(2.0, 1.5), (1.0, 0.0), (np.inf, np.inf)])
def test_renormalization_is_that_of_keras_at_constant_bounds(rng, clipping):
    """Its five statistics: ours are `renorm_*` where both momenta agree."""
    r_max, d_max = clipping
    theirs = keras.layers.BatchNormalization(
        momentum=0.8,
        renorm=True,
        renorm_momentum=0.8,
        renorm_clipping={"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max},
    )
    theirs.build(SHAPE)
    ours = perturb(
        brn.BatchRenormalization(momentum=0.8, r_max=r_max, d_max=d_max), rng.normal(2, 3, SHAPE)
    )
    assert_follows_keras_renorm(rng, ours, theirs)


@pytest.mark.skipif(
    BACKEND != "tensorflow" or importlib.util.find_spec("tf_keras") is None,
    reason="tf_keras runs on TensorFlow, and comes with the test extra",
)
def test_renormalization_is_that_of_tf_keras_at_constant_bounds(rng):
    import tf_keras

    theirs = tf_keras.layers.BatchNormalization(
        momentum=0.8,
        renorm=True,
        renorm_momentum=0.8,
        renorm_clipping={"rmax": 2.0, "rmin": 0.5, "dmax": 1.5},
    )
    theirs.build(SHAPE)
    ours = perturb(
        brn.BatchRenormalization(momentum=0.8, r_max=2, d_max=1.5), rng.normal(2, 3, SHAPE)
    )
    assert_follows_keras_renorm(rng, ours, theirs, differentiate=_through_tf_keras)


def assert_follows_keras_renorm(rng, ours, theirs, differentiate=training_pass):
    copy_weights(ours, theirs, "gamma", "beta", "moving_mean", "moving_stddev")
    theirs.renorm_mean.assign(numpy(ours.moving_mean))
    theirs.renorm_stddev.assign(numpy(ours.moving_stddev))
    for x, upstream in batches(rng):
        assert_equal_passes(training_pass(ours, x, upstream), differentiate(theirs, x, upstream))
        mean, sigma = state(ours)
        for name, value in {"mean": mean, "stddev": sigma}.items():
            for prefix in ("renorm", "moving"):
                wanted = numpy(getattr(theirs, f"{prefix}_{name}"))
                np.testing.assert_allclose(value, wanted, rtol=1e-5, err_msg=f"{prefix}_{name}")
    x = tensor(x)
    # Keras divides by sqrt(variance + epsilon) with its variance sigma^2 - epsilon.
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), rtol=1e-4, atol=1e-4)


def _through_tf_keras(layer, x, upstream):
    import tensorflow as tf
    from harness import Pass

    x = tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
    gradients = tape.gradient(y, [x, layer.gamma, layer.beta], output_gradients=tensor(upstream))
    return Pass(numpy(y), *map(numpy, gradients))
