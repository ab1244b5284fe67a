"""Calls of which PyTorch leaves out most of Keras's `__call__`: nobody is to notice."""

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, numpy, perturb, state, tensor

import brn
from brn import backend

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="elsewhere, Keras's is compiled away")


@pytest.fixture(params=[brn.BatchNormalization, brn.BatchRenormalization])
def layer(request):
    """One of the two layers, built."""
    return perturb(request.param(), np.arange(np.prod(SHAPE)).reshape(SHAPE))


@pytest.fixture
def x(rng):
    """Inputs."""
    return tensor(rng.normal(size=SHAPE))


def is_plain(layer, x, *args, **kwargs):
    return backend.is_plain_call(layer, x, args, kwargs)


@pytest.mark.parametrize("training", [True, False])
def test_a_plain_call_is_what_keras_would_do(layer, x, training):
    assert is_plain(layer, x, training=training)
    copy = layer.from_config(layer.get_config())
    copy.build(SHAPE)
    copy.set_weights(layer.get_weights())
    expected = keras.Layer.__call__(copy, x, training=training)
    np.testing.assert_array_equal(numpy(layer(x, training=training)), numpy(expected))
    np.testing.assert_array_equal(state(layer), state(copy))


def test_what_keras_has_to_look_at_is_not_plain(layer, x):
    masked = x.clone()
    masked._keras_mask = x[..., 0] > 0
    assert not is_plain(layer, masked, training=True)
    assert not is_plain(layer, x)  # the mode is that of the layer around
    assert not is_plain(layer, x, training=None)
    assert not is_plain(layer, x, training=True, mask=x[..., 0] > 0)
    assert not is_plain(layer, x, True)
    assert not is_plain(layer, numpy(x), training=True)
    assert not is_plain(layer, keras.KerasTensor(SHAPE), training=True)
    assert not is_plain(layer, x[..., :-1], training=True)
    assert not is_plain(layer, x[0], training=True)
    assert not is_plain(layer, x.to("meta"), training=True)  # Keras moves it to the layer's device
    assert not is_plain(type(layer)(), x, training=True)
    layer.input_spec = None
    assert not is_plain(layer, x, training=True)
    regularized = type(layer)(activity_regularizer="l2")
    regularized.build(SHAPE)
    assert not is_plain(regularized, x, training=True)


def test_the_hooks_of_the_module_run(layer, x):
    seen = []
    layer.register_forward_hook(lambda layer, inputs, y: seen.append(y))
    y = layer(x, training=True)
    assert seen == [y]


def test_layers_inside_a_subclass_are_called_in_its_mode(layer, x):
    class WithDropout(type(layer)):
        def build(self, input_shape):
            self.dropout = keras.layers.Dropout(0.999)
            super().build(input_shape)

        def call(self, inputs, training=False):
            return self.dropout(super().call(inputs, training=training))

    around = WithDropout()
    around.build(SHAPE)
    assert (numpy(around(x, training=True)) == 0).mean() > 0.9
    assert (numpy(around(x, training=False)) != 0).all()
