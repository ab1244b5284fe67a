"""Of wrong arguments none passes in silence, and those of other implementations get a hint."""

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, numpy, tensor

import brn
from brn.backend import compiled
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
    with pytest.raises(ValueError, match=r"finite numbers of at least 0.*which gives (-|nan)"):
        layer_class(moving_variance_initializer=value)
    layer = layer_class(moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2, 7))
    other = layer_class(moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2, 7))
    for built in (layer, other):  # Trying it drew no numbers from it.
        built.build((None, 3))
    assert layer.get_weights()[3].tolist() == other.get_weights()[3].tolist()


@BOTH
def test_inputs_are_real_numbers(layer_class):
    with pytest.raises(ValueError, match=r"real numbers.*Received: dtype=complex64"):
        layer_class()(keras.ops.convert_to_tensor(np.ones(SHAPE, "complex64")), training=True)


@BOTH
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (True, "Received: mask=True, a bool"),
        ([[True] * 3] * 6, r"np\.asarray\(mask\).*Received: mask=\[\[True, .*a list"),
        (lambda: None, "must be an array"),
        (np.array(True), r"Received: mask.shape=\(\)"),
        (np.ones((2, 5), bool), r"Received: mask.shape=\(2, 5\)"),
        (np.full(SHAPE[:2], 0.5), r"Received: mask.dtype=float.*values 0\.5"),
        (np.array([0, 1, 2, 0, 1, 1]), r"in or out.*Received: mask.dtype=int.*values 0, 1, 2"),
        (np.array([0, 1, np.nan, 0, 1, 1]), r"Received: mask.dtype=float.*nan"),
        (np.ones(6, "complex64"), "Received: mask.dtype=complex64"),
        (np.array([True] * 6, object), "`mask` must be an array of numbers.*mask.dtype=object"),
        (np.zeros(6, "datetime64[s]"), "`mask` must be an array of numbers.*mask.dtype=datetime"),
    ],
)
def test_masks_that_are_none_in_training_and_inference(layer_class, training, mask, message):
    layer = layer_class()
    with pytest.raises(ValueError, match=message):
        layer(tensor(np.ones(SHAPE)), training=training, mask=mask)


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is traced")
def test_a_mask_of_numbers_has_values_to_check():
    layer, ones = brn.BatchNormalization(), tensor(np.ones(SHAPE))
    layer.build(SHAPE)
    run = compiled(lambda x, mask: layer(x, mask=mask))
    with pytest.raises(ValueError, match=r"mask > 0\.5\. Received: mask.dtype=float32, .*traced"):
        run(ones, ones)
    for mask in (ones > 0, keras.ops.cast(ones, "int32")):
        assert run(ones, mask).shape == SHAPE


@BOTH
@pytest.mark.parametrize(
    "training",
    ["no", "", 2, -1, 0.5, float("nan"), [], [True], (), {}, object, np.array([True]), np.ones(6)],
    ids=repr,
)
def test_training_is_true_or_false(layer_class, training):
    layer = layer_class()
    with pytest.raises(ValueError, match=r"(?s)`training` must be True or False.*Received: train"):
        layer(tensor(np.ones(SHAPE)), training=training)


@pytest.mark.skipif(BACKEND == "torch", reason="nothing is traced")
def test_training_is_known_while_it_is_traced():
    layer = brn.BatchNormalization()
    layer.build(SHAPE)
    run = compiled(lambda x, training: layer(x, training=training))
    with pytest.raises(ValueError, match=r"must be known .*static_argnames.*Received: training="):
        run(tensor(np.ones(SHAPE)), tensor(True, "bool"))


@pytest.mark.parametrize("yes", [True, 1, np.True_, np.array(True), tensor(True, "bool")], ids=repr)
def test_training_in_other_words(yes):
    layer = brn.BatchNormalization()
    layer(tensor(np.ones(SHAPE)), training=yes)
    assert numpy(layer.moving_mean)[0] > 0
    for no in (0, None, np.array(False)):
        layer(tensor(np.full(SHAPE, 9.0)), training=no)
    assert numpy(layer.moving_mean)[0] == pytest.approx(0.01)


@BOTH
@pytest.mark.parametrize("values", [object, "datetime64[s]", "U1"])
def test_inputs_are_numbers(layer_class, values):
    """JAX makes NaN or zeros of some."""
    with pytest.raises(ValueError, match=r"`inputs` must be an array of numbers.*inputs.dtype="):
        layer_class()(np.zeros(SHAPE).astype(values))


@BOTH
@pytest.mark.parametrize("inputs", [None, 1.0, [[0.0] * 3] * 2, (np.ones(SHAPE),), {"a": 1}])
def test_inputs_are_one_array(layer_class, inputs):
    kind = type(inputs).__name__
    with pytest.raises(ValueError, match=rf"`inputs` must be.*one: .*Received: inputs=.*a {kind}"):
        layer_class()(inputs, training=True)


@BOTH
def test_a_mask_in_the_place_of_training_is_refused_by_what_it_is(layer_class):
    for mask in (np.ones(SHAPE, bool), keras.Input(SHAPE[1:], dtype="bool")):
        with pytest.raises(ValueError, match=r"a mask is passed by its name.*Received: training="):
            layer_class()(keras.Input(SHAPE[1:]), mask)


@BOTH
@pytest.mark.parametrize(
    "shape", [None, 5, "ab", {"a": 3, "b": 3}, ("a", 3), (2.5, 3), (-2, 3), (None, True), [(2, 3)]]
)
def test_shapes_of_sizes(layer_class, shape):
    for act in (layer_class().build, layer_class().compute_output_shape):
        with pytest.raises(ValueError, match="tuple of sizes") as error:
            act(shape)
        assert f"Received: input_shape={shape!r}" in str(error.value)


@BOTH
@pytest.mark.parametrize("act", ["set_weights", "load_own_variables"])
@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (3, -np.ones(3), r"moving_(variance|stddev) of 'norm' must not be negative"),
        (2, np.ones(3) * 1j, "moving_mean of 'norm' must be real numbers"),
        (0, np.array(["a"] * 3), "gamma of 'norm' must be real numbers"),
        (1, 1.0, r"beta of 'norm' must have the shape \(3,\)"),
        (4, np.array(-1), "step of 'norm' must not be negative"),
        (4, np.array(0.5), "step of 'norm' must count steps"),
    ],
)
def test_weights_that_are_none(layer_class, act, place, value, message):
    layer = layer_class(name="norm")
    layer.build((None, 3))
    weights = before = layer.get_weights()
    if place == len(weights):
        return
    weights = [value if i == place else weight for i, weight in enumerate(weights)]
    with pytest.raises(ValueError, match=rf"{message}.*Received: "):
        getattr(layer, act)(
            weights if act == "set_weights" else {str(i): w for i, w in enumerate(weights)}
        )
    for got, expected in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)


@BOTH
def test_trainable_is_true_or_false(layer_class):
    with pytest.raises(ValueError, match=r"`trainable` must be True or False. Received: .*='no'"):
        layer_class(trainable="no")


@BOTH
@pytest.mark.parametrize("name", ["gamma", "moving_mean", "moving_variance"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_start_finite(layer_class, name, value):
    with pytest.raises(ValueError, match=rf"must give finite numbers.*Received: {name}_initial"):
        layer_class(**{f"{name}_initializer": Constant(value)})


def test_initial_values_for_each_channel():
    layer = brn.BatchNormalization(moving_variance_initializer=Constant(np.array([1.0, 2.0, 3.0])))
    layer.build((None, 3))
    assert numpy(layer.moving_variance).tolist() == [1.0, 2.0, 3.0]


def test_a_function_gives_no_negative_variance():
    with pytest.raises(ValueError, match="which gives -1"):
        brn.BatchNormalization(moving_variance_initializer=lambda shape, dtype: -np.ones(shape))


class Returns(brn.schedules.ClipSchedule):
    """A bound that is what it is made with."""

    def __init__(self, bound):
        self.bound = bound

    def __call__(self, step):
        return self.bound

    def get_config(self):
        return {"bound": self.bound}


@pytest.mark.parametrize("bound", [None, "2", True, np.ones(1), np.ones(5), 2j], ids=repr)
def test_a_bound_is_one_number(bound):
    with pytest.raises(ValueError, match=r"`r_max` must be one number.*at step 0"):
        brn.BatchRenormalization(r_max=Returns(bound))


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_bounds_are_floating(dtype):
    layer = brn.BatchRenormalization()
    with pytest.raises(ValueError, match=r"built=False"):
        layer.clipping_bounds()
    layer.build((None, 3))
    with pytest.raises(ValueError, match=rf"floating numbers.*dtype='{dtype}'"):
        layer.clipping_bounds(dtype)


@BOTH
def test_autocast_is_decided(layer_class):
    with pytest.raises(ValueError, match=r"`autocast`.*Received: autocast=True"):
        layer_class(autocast=True)


def test_clipping_of_keras_without_renorm():
    config = {"renorm": False, "renorm_clipping": {"rmax": 3.0}}
    with pytest.raises(ValueError, match=r"pass `r_max` and `d_max`.*renorm=False, renorm_clipp"):
        brn.BatchRenormalization.from_config(config)
    brn.BatchNormalization.from_config(config)


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
