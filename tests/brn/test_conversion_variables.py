"""What is not a swapped layer's is in the copy: by path, with its value and whether it trains."""

import keras
import numpy as np
import pytest
from harness import numpy
from keras import layers
from normalized_models import assert_predicts_alike, inputs_of, randomize

import brn

KERAS = layers.BatchNormalization
SWAPPED = ("gamma", "beta", "moving_mean", "moving_variance", "moving_stddev", "step")


class Gain(layers.Wrapper):
    """A wrapper with a weight of its own."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, inputs):
        return self.gain * self.layer(inputs)


class Gated(layers.Wrapper):
    """A wrapper with a layer of its own, beside the one that it wraps."""

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        self.gate = layers.Dense(3, activation="sigmoid", name="gate")

    def build(self, input_shape):
        super().build(input_shape)
        self.gate.build(input_shape)

    def call(self, inputs):
        return self.gate(inputs) * self.layer(inputs)


class GainedSequential(keras.Sequential):
    def build(self, input_shape=None):
        super().build(input_shape)
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")

    def call(self, inputs, training=None, mask=None):
        return self.gain * super().call(inputs, training=training)


class GainedModel(keras.Model):
    """Its weight is made when it exists already."""

    def call(self, inputs, training=None, mask=None):
        outputs = super().call(inputs, training=training)
        return self.gain * outputs if hasattr(self, "gain") else outputs


class Freezing(layers.Layer):
    """A block that trains its bias alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3, name="inner")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.dense.kernel.trainable = False

    def call(self, inputs):
        return self.dense(inputs)


def around(layer, kind=keras.Sequential, shape=(3,)):
    return kind([keras.Input(shape), layer, KERAS(name="norm")], name="model")


def functional(kind=keras.Model):
    x = keras.Input((3,))
    return kind(x, KERAS(name="norm")(layers.Dense(3, name="dense")(x)), name="model")


def gained_model():
    model = functional(GainedModel)
    model.gain = model.add_weight(shape=(), initializer="ones", name="gain")
    return model


def nameless_weight():
    model = functional()
    model.add_weight(shape=(2,), name="nameless", trainable=False)
    return model


def with_lora():
    model = around(layers.Dense(3, name="dense"))
    model.layers[0].enable_lora(2)
    return model


def with_frozen_gamma():
    model = around(layers.Dense(3, name="dense"))
    model.get_layer("norm").gamma.trainable = False
    return model


def with_frozen_kernel_inside():
    inner = around(layers.Dense(3, name="dense"))
    inner.layers[0].kernel.trainable = False
    return keras.Sequential([keras.Input((3,)), inner, KERAS(name="last")], name="outer")


MODELS = {
    "a wrapper's weight": lambda: around(Gain(layers.Dense(3, name="dense"), name="gain")),
    "a wrapper's layer": lambda: around(Gated(layers.Dense(3, name="dense"), name="gated")),
    "wrappers in each other": lambda: around(
        Gain(Gain(layers.Dense(3, name="dense"), name="in"), name="out")
    ),
    "a Sequential's weight": lambda: around(layers.Dense(3, name="dense"), GainedSequential),
    "a functional model's weight": gained_model,
    "a weight nobody holds": nameless_weight,
    "spectral normalization": lambda: around(
        layers.SpectralNormalization(layers.Conv2D(3, 2, name="conv"), name="spectral"),
        shape=(3, 3, 2),
    ),
    "LoRA": with_lora,
    "LoRA in a wrapper": lambda: around(
        layers.TimeDistributed(layers.Dense(3, lora_rank=2, name="dense"), name="each"),
        shape=(2, 3),
    ),
    "a frozen gamma": with_frozen_gamma,
    "a block that freezes": lambda: around(Freezing(name="freezing")),
    "a frozen kernel inside": with_frozen_kernel_inside,
}


def state(model):
    return {
        variable.path: (numpy(variable).tolist(), variable.trainable)
        for variable in model.variables
        if variable.name not in SWAPPED
    }


def flags(model):
    return {
        variable.path: variable.trainable
        for variable in model.variables
        if variable.name in ("gamma", "beta")
    }


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_nothing_is_lost_nor_unfrozen(make):
    model = randomize(make())
    converted = brn.convert(model)
    assert state(model)
    assert state(converted) == state(model)
    assert flags(converted) == flags(model)
    assert_predicts_alike(model, converted, *inputs_of(model))
    assert not {id(v) for v in converted.variables} & {id(v) for v in model.variables}
    assert state(brn.convert(converted, KERAS)) == state(model)


def test_what_is_frozen_does_not_move():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    model = randomize(around(Freezing(name="freezing")))
    model.get_layer("norm").gamma.trainable = False
    converted = brn.convert(model)
    converted.compile(keras.optimizers.SGD(0.1), "mse")
    before = [numpy(variable) for variable in converted.variables]
    converted.fit(x, x, verbose=0)
    moved = {
        variable.name
        for variable, value in zip(converted.variables, before, strict=True)
        if (numpy(variable) != value).any()
    }
    assert moved & {"kernel", "gamma", "beta"} == {"beta"}


def test_spectral_normalization_goes_on():
    """From its singular vector, one step leaves a spectral norm of 1; from another one, more."""
    model = randomize(MODELS["spectral normalization"]())
    spectral = model.layers[0]
    _, _, vectors = np.linalg.svd(numpy(spectral.layer.kernel).reshape(-1, 3))
    spectral.vector_u.assign(vectors[:1])
    converted = brn.convert(model)
    converted.layers[0](inputs_of(model)[0], training=True)
    kernel = numpy(converted.layers[0].layer.kernel).reshape(-1, 3)
    assert np.linalg.svd(kernel)[1][0] == pytest.approx(1.0, abs=1e-5)


def test_what_a_model_holds_goes_along():
    """Layers, alone and in lists, seeds, metrics, and variables of layers inside it."""
    model = functional()
    model.projection = layers.Dense(2, name="projection")
    model.projection.build((None, 3))
    model.heads = [layers.Dense(1, name="first"), {"second": model.projection}]
    model.heads[0].build((None, 3))
    model.seeds = keras.random.SeedGenerator(3)
    model.seeds.next()
    model.mean = keras.metrics.Mean()
    model.kernel = model.get_layer("dense").kernel
    randomize(model)
    converted = brn.convert(model)
    assert state(converted) == state(model)
    assert converted.projection is not model.projection
    assert converted.heads[1]["second"] is converted.projection
    assert converted.kernel is converted.get_layer("dense").kernel
    assert converted.mean is not model.mean
    assert numpy(converted.seeds.state).tolist() == numpy(model.seeds.state).tolist()


def test_a_variable_that_cannot_go_along_is_named():
    """The copy of this wrapper is made without the second weight."""

    class Growing(Gain):
        grown = False

        def build(self, input_shape):
            super().build(input_shape)
            if self.grown:
                self.more = self.add_weight(shape=(2,), name="more")

    layer = Growing(layers.Dense(3), name="growing")
    layer.grown = True
    with pytest.raises(
        ValueError, match=r"other weights.*layer='growing', a Growing, with 2 .*copy has 1"
    ):
        brn.convert(around(layer))
