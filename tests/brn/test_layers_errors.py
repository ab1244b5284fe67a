"""Bad arguments: the message holds the received value, what was expected and how to mend it."""

import math

import keras
import numpy as np
import pytest
from harness import SHAPE, tensor

import brn
from brn.schedules import ClipSchedule, Constant, Ramp

BOTH = pytest.mark.parametrize("layer_class", [brn.BatchRenormalization, brn.BatchNormalization])


class Sinks(ClipSchedule):
    """A bound that is good at first and below 1 and 0 later on."""

    def __call__(self, step):
        return 2.0 - keras.ops.cast(step, "float32")


@BOTH
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("momentum", -0.01, "[0, 1]"),
        ("momentum", 1.01, "[0, 1]"),
        ("momentum", 99, "[0, 1]"),
        ("momentum", math.nan, "[0, 1]"),
        ("momentum", None, "[0, 1]"),
        ("momentum", "0.9", "[0, 1]"),
        ("epsilon", -1e-3, "at least 0"),
        ("epsilon", math.nan, "at least 0"),
        ("epsilon", math.inf, "at least 0 and finite"),
        ("epsilon", None, "at least 0"),
        ("microbatch_size", 0, "positive integer, or None for the whole batch"),
        ("microbatch_size", -1, "positive integer"),
        ("microbatch_size", 2.5, "positive integer"),
        ("microbatch_size", True, "positive integer"),
        ("microbatch_size", "4", "positive integer"),
        ("axis", 0, "features"),
        ("axis", 1.5, "one integer"),
        ("axis", True, "one integer"),
        ("axis", None, "one integer"),
        ("axis", "last", "one integer"),
        ("axis", [1, 2], "one integer"),
        ("axis", [], "one integer"),
    ],
)
def test_arguments(layer_class, name, value, expected):
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        layer_class(**{name: value})
    assert f"Received: {name}={value!r}" in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        *(("r_max", value, "at least 1") for value in (0.999, 0, -3, -math.inf)),
        *(("d_max", value, "at least 0") for value in (-0.001, -3, -math.inf)),
        *(
            (name, value, "at least")
            for name in ("r_max", "d_max")
            for value in (math.nan, None, True, "3", "papers", "", [3.0], (1, 3), {}, object)
        ),
        *((name, {"rmax": 3}, "at least") for name in ("r_max", "d_max")),
    ],
)
def test_bounds(name, value, limit):
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        brn.BatchRenormalization(**{name: value})
    assert f"Received: {name}={value!r}" in str(error.value)
    assert limit in str(error.value)
    assert "brn.schedules.Ramp" in str(error.value)
    assert "float('inf')" in str(error.value)


@pytest.mark.parametrize(
    ("name", "schedule", "value"),
    [
        ("r_max", Ramp(0.5, 3, 10, 20), "0.5"),
        ("r_max", Ramp(3, 0.25, 10, 20), "0.25"),
        ("d_max", Ramp(5, -1.5, 10, 20), "-1.5"),
        ("r_max", Constant(0.75), "0.75"),
        ("r_max", Sinks(), "Sinks"),
        ("d_max", Sinks(), "Sinks"),
    ],
)
def test_schedules_that_leave_the_range(name, schedule, value):
    with pytest.raises(ValueError, match=f"`{name}`") as error:
        brn.BatchRenormalization(**{name: schedule})
    assert value in str(error.value)
    assert repr(schedule) in str(error.value)


@pytest.mark.parametrize("name", ["r_max", "d_max"])
def test_a_variable_is_not_a_bound(name):
    """Its value would be read once, here, and never again."""
    with pytest.raises(ValueError, match=f"`{name}`"):
        brn.BatchRenormalization(**{name: keras.Variable(2.0)})


@BOTH
def test_limits_are_inside_the_range(layer_class):
    for momentum in (0, 1, np.float32(0.5)):
        assert layer_class(momentum=momentum).momentum == momentum
    assert layer_class(epsilon=0).epsilon == 0
    assert layer_class(microbatch_size=np.int64(1)).microbatch_size == 1
    assert layer_class(microbatch_size=None).microbatch_size is None


def test_limits_of_the_bounds_are_inside_the_range():
    for r_max, d_max in ((1, 0), (np.float32(2), np.int64(3)), (math.inf, math.inf)):
        config = brn.BatchRenormalization(r_max=r_max, d_max=d_max).get_config()
        assert (config["r_max"], config["d_max"]) == (r_max, d_max)


@BOTH
@pytest.mark.parametrize(
    ("axis", "shape"), [(-3, SHAPE), (3, SHAPE), (-4, SHAPE), (2, (6, 5)), (-2, (6, 5)), (1, (6,))]
)
def test_an_axis_the_inputs_do_not_have(layer_class, axis, shape):
    for act in (layer_class(axis=axis).build, layer_class(axis=axis).compute_output_shape):
        with pytest.raises(ValueError, match="`axis`") as error:
            act(shape)
        assert f"axis={axis}" in str(error.value)
        assert f"rank {len(shape)}" in str(error.value)


@BOTH
@pytest.mark.parametrize("shape", [(6,), ()])
def test_inputs_without_a_feature_axis(layer_class, shape):
    with pytest.raises(ValueError, match=r"two dimensions at least.*x\[:, None\]") as error:
        layer_class().build(shape)
    assert f"Received: axis=-1, inputs of rank {len(shape)}" in str(error.value)


@BOTH
@pytest.mark.parametrize(("axis", "shape"), [(-1, (4, None)), (1, (None, 3))])
def test_a_feature_axis_of_unknown_size(layer_class, axis, shape):
    with pytest.raises(ValueError, match="size of the feature axis must be known") as error:
        layer_class(axis=axis)(keras.Input(shape))
    assert f"axis={axis}, input_shape=(None, " in str(error.value)


@BOTH
@pytest.mark.parametrize("shape", [(6, 2, 4), (6, 5)])
def test_inputs_unlike_those_it_was_built_for(layer_class, shape):
    layer = layer_class()
    layer.build(SHAPE)
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(tensor(np.ones(shape)))


@BOTH
def test_synchronized_microbatches(layer_class):
    with pytest.raises(ValueError, match="choose one of the two") as error:
        layer_class(synchronized=True, microbatch_size=4)
    assert "synchronized=True, microbatch_size=4" in str(error.value)


@BOTH
@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_a_dtype_that_is_no_floating_point(layer_class, dtype):
    with pytest.raises(ValueError, match="computes in floating point") as error:
        layer_class(dtype=dtype)
    assert f"Received: dtype={dtype!r}" in str(error.value)


@BOTH
def test_an_argument_that_does_not_exist(layer_class):
    with pytest.raises((TypeError, ValueError), match="rmax"):
        layer_class(rmax=3.0)


@pytest.mark.parametrize("clipping", [{"rmax": 3.0}, {"rmin": 0.5}, {"rmax": 3.0, "rmin": 0.5}])
def test_clipping_of_keras_that_algorithm_1_has_not(clipping):
    theirs = keras.layers.BatchNormalization(renorm=True, renorm_clipping=clipping)
    with pytest.raises(ValueError, match="rmin = 1 / rmax") as error:
        brn.BatchRenormalization.from_config(theirs.get_config())
    assert repr(clipping) in str(error.value)


def test_renorm_of_keras_is_no_batch_normalization():
    theirs = keras.layers.BatchNormalization(renorm=True)
    with pytest.raises(ValueError, match=r"brn\.BatchRenormalization") as error:
        brn.BatchNormalization.from_config(theirs.get_config())
    assert "renorm=True" in str(error.value)
