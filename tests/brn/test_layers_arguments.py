"""Of wrong arguments none passes in silence, and those of other implementations get a hint."""

import keras
import numpy as np
import pytest
from harness import SHAPE, numpy, tensor

import brn
from brn.schedules import Ramp

BOTH = pytest.mark.parametrize("layer_class", [brn.BatchRenormalization, brn.BatchNormalization])
Constant = keras.initializers.Constant


@BOTH
@pytest.mark.parametrize("name", ["center", "scale", "synchronized"])
@pytest.mark.parametrize("value", ["no", 2, 0, None, [True]], ids=repr)
def test_what_is_neither_true_nor_false(layer_class, name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be True or False") as error:
        layer_class(**{name: value})
    assert f"Received: {name}={value!r}" in str(error.value)


def test_bias_correction_is_true_or_false():
    with pytest.raises(ValueError, match="Received: bias_correction='off'"):
        brn.BatchRenormalization(bias_correction="off")
    assert brn.BatchRenormalization(bias_correction=np.bool_(True)).bias_correction is True


@BOTH
@pytest.mark.parametrize("name", ["gamma", "beta", "moving_mean", "moving_variance"])
@pytest.mark.parametrize("value", [-1, 0.5, "onse", None, [1.0]], ids=repr)
def test_what_is_no_initializer(layer_class, name, value):
    argument = f"{name}_initializer"
    with pytest.raises(ValueError, match=f"`{argument}` must be an initializer") as error:
        layer_class(**{argument: value})
    assert f"Received: {argument}={value!r}" in str(error.value)


@BOTH
@pytest.mark.parametrize("value", [Constant(-1.0), Constant(float("nan")), "random_normal"])
def test_a_variance_is_not_negative(layer_class, value):
    with pytest.raises(ValueError, match=r"must give numbers of at least 0.*which gives (-|nan)"):
        layer_class(moving_variance_initializer=value)
    layer = layer_class(moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2, 7))
    other = layer_class(moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2, 7))
    for built in (layer, other):  # Trying it drew no numbers from it.
        built.build((None, 3))
    assert layer.get_weights()[3].tolist() == other.get_weights()[3].tolist()


@BOTH
@pytest.mark.parametrize("mask", [True, 1.0, "all"])
def test_a_mask_is_an_array(layer_class, mask):
    layer, x = layer_class(), tensor(np.ones(SHAPE))
    with pytest.raises(ValueError, match=f"`mask` must be an array.*Received: mask={mask!r}"):
        layer(x, training=True, mask=mask)
    with pytest.raises(ValueError, match=r"Received: mask.shape=\(\)"):
        layer(x, training=True, mask=np.array(True))


@BOTH
def test_inputs_are_real_numbers(layer_class):
    with pytest.raises(ValueError, match=r"real numbers.*Received: dtype=complex64"):
        layer_class()(keras.ops.convert_to_tensor(np.ones(SHAPE, "complex64")), training=True)


@pytest.mark.parametrize(
    "clipping",
    [
        {"rmax": 2.0, "rmin": 0.5, "d_max": 3.0},
        {"foo": 1.0},
        {"rmax": "2"},
        {"dmax": True},
        "rmax",
        [3.0],
    ],
    ids=repr,
)
def test_clipping_of_keras_that_is_none(clipping):
    """Keras drops keys that it does not know."""
    config = {"renorm": True, "renorm_momentum": 0.9, "renorm_clipping": clipping}
    with pytest.raises(ValueError, match="'rmax', 'rmin' and 'dmax'") as error:
        brn.BatchRenormalization.from_config(config)
    assert f"Received: renorm_clipping={clipping}" in str(error.value)


@BOTH
def test_renorm_is_true_or_false(layer_class):
    with pytest.raises(ValueError, match=r"`renorm` must be True or False. Received: renorm='no'"):
        layer_class.from_config({"renorm": "no"})


def test_float16_holds_few_steps():
    """Bounds are functions of steps far beyond 65,504, whatever Keras's default type is."""
    keras.config.set_floatx("float16")
    try:
        ramp = Ramp(1.0, 3.0, begin=100_000, finish=200_000)
        brn.BatchRenormalization(r_max=ramp)
        assert [float(numpy(ramp(step))) for step in (0, 150_000, 10**9)] == [1.0, 2.0, 3.0]
    finally:
        keras.config.set_floatx("float32")


class TestFromPyTorch:
    @BOTH
    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("eps", "it is `epsilon`"),
            ("num_features", "known from the inputs"),
            ("affine", "`scale` and `center`"),
            ("track_running_stats", "training=True or False"),
            ("rmax", "it is `r_max`"),
            ("max_d", "it is `d_max`"),
            ("warmup_steps", r"brn\.schedules\.Ramp"),
            ("virtual_batch_size", "it is `microbatch_size`"),
            ("renorm", r"brn\.BatchRenormalization"),
        ],
    )
    def test_names_of_arguments(self, layer_class, name, hint):
        with pytest.raises(ValueError, match=rf"`{name}`.*{hint}.*Received: {name}=1$"):
            layer_class(**{name: 1})

    @BOTH
    def test_the_number_of_features_is_no_axis(self, layer_class):
        with pytest.raises(ValueError, match=r"not the number of features.*Received: axis=64"):
            layer_class(64)(tensor(np.ones((2, 64))))
