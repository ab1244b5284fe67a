"""What tf_keras saved reaches `brn.BatchRenormalization`: Keras loads it, `brn.convert` swaps."""

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy

import brn

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="tf_keras needs TensorFlow")


def build(library):
    """A nested model with plain and renormalizing layers, by tf_keras or by Keras 3."""
    layers = library.layers
    inner = library.Sequential(
        [
            layers.Conv2D(3, 3, use_bias=False, name="inner_conv"),
            layers.BatchNormalization(renorm=True, scale=False, name="inner_norm"),
        ],
        name="inner",
    )
    x = library.Input((6, 6, 2))
    y = layers.Conv2D(3, 3, name="conv")(x)
    y = layers.BatchNormalization(renorm=True, epsilon=0.01, name="norm")(y)
    y = layers.BatchNormalization(name="plain")(inner(y))
    return library.Model(x, layers.Dense(2, name="head")(layers.Flatten(name="flat")(y)))


@pytest.mark.parametrize("name", ["old.h5", "old.weights.h5"])
def test_weights_of_tf_keras(rng, tmp_path, name):
    tf_keras = pytest.importorskip("tf_keras")
    old = build(tf_keras)
    weights = [rng.uniform(0.5, 2.0, weight.shape) for weight in old.weights]
    for weight, value in zip(old.weights, weights, strict=True):
        weight.assign(value)
    old.save_weights(tmp_path / name)

    new = build(keras)
    new.load_weights(tmp_path / name)
    model = brn.convert(new, r_max=3.0, d_max=5.0)
    x = rng.normal(size=(4, 6, 6, 2)).astype("float32")
    expected = old(x, training=False).numpy()
    np.testing.assert_allclose(numpy(model(x, training=False)), expected, rtol=1e-5, atol=1e-5)
    layer, source = model.get_layer("norm"), old.get_layer("norm")
    np.testing.assert_allclose(
        numpy(layer.moving_stddev), np.sqrt(source.moving_variance.numpy() + 0.01), rtol=1e-6
    )
