"""What Keras expects of any layer, over many configurations of both."""

import copy
import json

import keras
import numpy as np
import pytest
from harness import numpy, tensor

import brn
from brn.schedules import Ramp

COMMON = [
    {},
    {"axis": 1},
    {"axis": -2},
    {"center": False, "scale": False},
    {"momentum": 0.5, "epsilon": 0.1, "name": "normalization"},
    {"microbatch_size": 4},
    {"synchronized": True},
    {"trainable": False},
    {"dtype": "mixed_float16"},
    {"dtype": "bfloat16"},
    {
        "beta_initializer": "random_normal",
        "gamma_initializer": keras.initializers.RandomUniform(0.5, 1.5, seed=3),
        "moving_mean_initializer": keras.initializers.Constant(2.0),
        "moving_variance_initializer": keras.initializers.Constant(4.0),
        "beta_regularizer": "l1",
        "gamma_regularizer": keras.regularizers.L2(0.25),
        "beta_constraint": "non_neg",
        "gamma_constraint": keras.constraints.MaxNorm(3.0),
    },
]
RENORMALIZATION = [
    {"r_max": 3, "d_max": 5.0},
    {"r_max": float("inf"), "d_max": float("inf")},
    {"r_max": Ramp(1, 3, 10, 20), "d_max": "paper"},
    {"r_max": brn.paper_clipping(1000)[0], "d_max": 0, "bias_correction": True},
]
CONFIGURATIONS = [
    *((brn.BatchNormalization, arguments) for arguments in COMMON),
    *((brn.BatchRenormalization, arguments) for arguments in COMMON + RENORMALIZATION),
]
EVERY = pytest.mark.parametrize(("layer_class", "arguments"), CONFIGURATIONS)
SHAPE = (6, 5, 5)


@EVERY
def test_configuration_makes_the_round_trip(layer_class, arguments):
    layer = layer_class(**arguments)
    config = layer.get_config()
    json.dumps(config)
    revived = layer_class.from_config(copy.deepcopy(config))
    assert revived.get_config() == config
    assert set(vars(revived)) == set(vars(layer))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is layer_class
    assert again.get_config() == config


@EVERY
def test_configuration_holds_every_argument(layer_class, arguments):
    layer = layer_class(**arguments)
    config = layer.get_config()
    for name, value in arguments.items():
        if isinstance(value, bool | int | float):
            assert config[name] == value
        attribute = getattr(layer, name)
        plain = isinstance(value, str | int | float) and "_" not in name
        assert not plain or name == "dtype" or attribute == value


@EVERY
def test_symbolic_shape_and_dtype_are_the_real_ones(layer_class, arguments, rng):
    layer = layer_class(**arguments)
    assert layer.compute_output_shape(SHAPE) == SHAPE
    assert layer.compute_output_shape((None, *SHAPE[1:])) == (None, *SHAPE[1:])
    for batch in (None, 6):
        symbolic = layer(keras.Input(batch_shape=(batch, *SHAPE[1:])), training=True)
        assert symbolic.shape == (batch, *SHAPE[1:])
        for training in (True, False):
            y = layer(tensor(rng.normal(size=SHAPE)), training=training)
            assert tuple(y.shape) == SHAPE
            assert keras.backend.standardize_dtype(y.dtype) == symbolic.dtype
            assert np.isfinite(numpy(y)).all()
    assert symbolic.dtype == layer.compute_dtype


@EVERY
def test_revived_layers_compute_the_same(layer_class, arguments, rng):
    x = tensor(rng.normal(2.0, 3.0, SHAPE))
    layer = layer_class(**arguments)
    layer(x, training=True)
    revived = layer_class.from_config(layer.get_config())
    revived.build(SHAPE)
    revived.set_weights(layer.get_weights())
    for training in (False, True):
        np.testing.assert_array_equal(
            numpy(revived(x, training=training)), numpy(layer(x, training=training))
        )
    for value, wanted in zip(revived.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(value, wanted)


@EVERY
def test_the_number_of_weights_and_losses(layer_class, arguments):
    layer = layer_class(**arguments)
    assert not layer.built
    layer.build((None, *SHAPE[1:]))
    assert layer.built
    affine = layer.center + layer.scale
    assert len(layer.trainable_variables) == (affine if layer.trainable else 0)
    statistics = 3 if layer_class is brn.BatchRenormalization else 2
    assert len(layer.variables) == affine + statistics
    assert len(layer.losses) == sum("regularizer" in name for name in arguments)
    assert layer.supports_masking


@pytest.mark.parametrize("layer_class", [brn.BatchNormalization, brn.BatchRenormalization])
def test_names(layer_class):
    assert layer_class.__module__.startswith("brn")
    assert keras.saving.get_registered_name(layer_class) == f"brn>{layer_class.__name__}"
    assert layer_class(name="other").name == "other"


def test_the_axis_as_tf_keras_writes_it():
    assert brn.BatchRenormalization(axis=[3]).axis == 3
    assert brn.BatchNormalization(axis=(-1,)).get_config()["axis"] == -1


class TestConfigurationsOfKeras:
    ARGUMENTS = {  # noqa: RUF012
        "axis": 1,
        "momentum": 0.9,
        "epsilon": 0.01,
        "center": False,
        "gamma_initializer": keras.initializers.Constant(2.0),
        "gamma_regularizer": keras.regularizers.L2(0.25),
        "name": "bn",
    }

    @pytest.mark.parametrize("layer_class", [brn.BatchNormalization, brn.BatchRenormalization])
    def test_plain(self, layer_class):
        theirs = keras.layers.BatchNormalization(**self.ARGUMENTS).get_config()
        ours = layer_class.from_config(theirs).get_config()
        shared = set(theirs) - {"renorm", "renorm_clipping", "renorm_momentum"}
        assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}

    def test_plain_gets_the_papers_bounds(self):
        config = keras.layers.BatchNormalization().get_config()
        layer = brn.BatchRenormalization.from_config(config)
        assert (layer.r_max, layer.d_max) == brn.paper_clipping()
        assert config == keras.layers.BatchNormalization(name=config["name"]).get_config()

    def test_renorm(self):
        theirs = keras.layers.BatchNormalization(
            **self.ARGUMENTS,
            renorm=True,
            renorm_momentum=0.8,
            renorm_clipping={"rmax": 4.0, "rmin": 0.25, "dmax": 5.0},
        )
        ours = brn.BatchRenormalization.from_config(theirs.get_config()).get_config()
        assert (ours["r_max"], ours["d_max"], ours["momentum"]) == (4, 5, 0.8)
        assert (ours["axis"], ours["epsilon"], ours["name"]) == (1, 0.01, "bn")

    @pytest.mark.parametrize("clipping", [None, {}, {"dmax": 2.0}])
    def test_renorm_without_bounds_does_not_clip(self, clipping):
        theirs = keras.layers.BatchNormalization(renorm=True, renorm_clipping=clipping)
        ours = brn.BatchRenormalization.from_config(theirs.get_config()).get_config()
        d_max = 2.0 if clipping else float("inf")
        assert (ours["r_max"], ours["d_max"]) == (float("inf"), d_max)
