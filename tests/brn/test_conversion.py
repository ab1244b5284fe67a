"""`brn.convert` changes the normalization layers of a model and nothing else."""

import json
import warnings

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy
from keras import layers
from normalized_models import assert_predicts_alike, branching, inputs_of, randomize, sequential

import brn
from brn.schedules import Constant, Ramp

KERAS = layers.BatchNormalization
KINDS = [brn.BatchRenormalization, brn.BatchNormalization, KERAS]


def every(model):
    return model._flatten_layers()


def kinds(model):
    return {type(layer) for layer in every(model) if isinstance(layer, tuple(KINDS))}


@pytest.mark.parametrize("to", KINDS[:2], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("make", [sequential, branching])
def test_there_and_back(make, to):
    model = randomize(make())
    inputs, weights = inputs_of(model), model.get_weights()
    converted = brn.convert(model, to)
    assert kinds(converted) == {to}
    assert_predicts_alike(model, converted, *inputs)
    back = brn.convert(converted, KERAS)
    assert kinds(back) == {KERAS}
    assert_predicts_alike(model, back, *inputs)
    assert type(back) is type(converted) is type(model)
    for got in (converted, back):
        assert got.name == model.name
        assert [layer.name for layer in every(got)] == [layer.name for layer in every(model)]
    assert [weight.path for weight in back.weights] == [weight.path for weight in model.weights]
    for got, expected in zip(back.get_weights(), weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-6)
    for got, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_state_by_mental_arithmetic():
    model = keras.Sequential([keras.Input((1,)), KERAS(epsilon=7.0, name="norm")])
    model.set_weights([np.array([value]) for value in (2.0, 3.0, 4.0, 9.0)])
    (layer,) = brn.convert(model).layers
    gamma, beta, mean, stddev, step = map(numpy, layer.weights)
    assert (gamma, beta, mean, stddev, step) == (2, 3, 4, 4, 0)  # sqrt(9 + 7) = 4
    (back,) = brn.convert(brn.convert(model), KERAS).layers
    assert [float(numpy(weight)[0]) for weight in back.weights] == [2, 3, 4, 9]
    # Another epsilon: the variance makes up for it.
    (other,) = brn.convert(model, brn.BatchNormalization, epsilon=1.0).layers
    assert (other.epsilon, numpy(other.moving_variance)) == (1.0, 15.0)


def test_the_copy_shares_nothing():
    model = randomize(sequential())
    before = [value.copy() for value in model.get_weights()]
    converted = brn.convert(model)
    assert not {id(value) for value in converted.variables} & {
        id(value) for value in model.variables
    }
    converted.compile("sgd", "mse")
    (x,) = inputs_of(model)
    converted.fit(x, np.ones((4, 3), "float32"), verbose=0)
    for got, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert_predicts_alike(model, brn.convert(model), x)


def a_particular_layer(kind=KERAS, **arguments):
    return kind(
        name="norm",
        axis=1,
        momentum=0.7,
        epsilon=0.01,
        beta_initializer=keras.initializers.Constant(0.5),
        gamma_regularizer=keras.regularizers.L2(0.1),
        beta_regularizer=lambda beta: keras.ops.sum(beta),
        gamma_constraint=keras.constraints.NonNeg(),
        beta_constraint=keras.constraints.MaxNorm(2.0),
        **arguments,
    )


@pytest.mark.parametrize("to", KINDS, ids=lambda kind: f"{kind.__module__[:5]}{kind.__name__}")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__[:5]}{kind.__name__}")
def test_arguments_go_along(kind, to):
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((3, 2)), a_particular_layer(kind, dtype=policy)])
    layer, (got,) = model.layers[0], brn.convert(model, to).layers
    assert type(got) is to
    assert (got.axis, got.momentum, got.epsilon, got.dtype_policy.name) == (
        *(1, 0.7, 0.01, "mixed_bfloat16"),
    )
    for name in ("beta_initializer", "gamma_regularizer", "beta_regularizer", "gamma_constraint"):
        assert getattr(got, name) is getattr(layer, name)
    assert got.compute_dtype == "bfloat16"
    assert got.gamma.dtype == "float32"


def test_new_arguments_and_those_of_our_own_layers():
    model = sequential()
    model = brn.convert(model, r_max=3, d_max=Ramp(0, 5, 1, 6), microbatch_size=2, momentum=0.5)
    for layer in (model.layers[1], model.layers[4]):
        assert (layer.r_max, layer.d_max) == (Constant(3), Ramp(0, 5, 1, 6))
        assert (layer.microbatch_size, layer.momentum) == (2, 0.5)
    # Layers that are of the kind already: their bounds can be changed, the rest stays.
    model.layers[1].step.assign(7)
    again = brn.convert(model, r_max=2, bias_correction=True).layers[1]
    assert (again.r_max, again.d_max, again.microbatch_size) == (Constant(2), Ramp(0, 5, 1, 6), 2)
    assert int(numpy(again.step)) == 7
    assert again.bias_correction
    assert brn.convert(model, brn.BatchNormalization).layers[1].microbatch_size == 2
    assert not hasattr(brn.convert(model, KERAS).layers[1], "microbatch_size")


def test_arguments_that_do_not_fit_name_the_layer():
    with pytest.raises(ValueError, match=r"'norm_1' cannot become a brn BatchRenorm.*r_max=0.5"):
        brn.convert(sequential(), r_max=0.5)
    with pytest.raises(ValueError, match=r"'norm_1' cannot become a keras BatchNorm.*microbatch"):
        brn.convert(sequential(), KERAS, microbatch_size=2)


@pytest.mark.parametrize(
    ("clipping", "arguments", "r_max", "d_max"),
    [
        ({"rmax": 3.0, "rmin": 1 / 3.0, "dmax": 5.0}, {}, 3.0, 5.0),
        (None, {}, float("inf"), float("inf")),
        ({"rmax": 3.0, "dmax": 5.0}, {"r_max": 2.0}, 2.0, 5.0),
    ],
)
def test_keras_renorm(clipping, arguments, r_max, d_max):
    def renormalizing(**kwargs):
        return KERAS(renorm=True, renorm_clipping=clipping, renorm_momentum=0.8, **kwargs)

    model = randomize(sequential(renormalizing))
    converted = brn.convert(model, **arguments)
    assert_predicts_alike(model, converted, *inputs_of(model))
    layer = converted.layers[1]
    assert (layer.r_max, layer.d_max, layer.momentum) == (Constant(r_max), Constant(d_max), 0.8)
    plain = brn.convert(model, KERAS)
    assert_predicts_alike(model, plain, *inputs_of(model))
    assert not plain.layers[1].renorm
    assert plain.layers[1].momentum == 0.99


def test_keras_renorm_with_bounds_that_do_not_carry_over():
    model = keras.Sequential(
        [keras.Input((2,)), KERAS(renorm=True, renorm_clipping={"rmax": 3.0}, name="norm")]
    )
    with pytest.raises(ValueError, match=r"'norm' .*renorm_clipping={'rmax': 3.0}"):
        brn.convert(model)


def test_to_keras_renorm():
    """Both pairs of averages start from the one there is."""
    model = randomize(sequential(brn.BatchRenormalization))
    converted = brn.convert(model, KERAS, renorm=True)
    assert_predicts_alike(model, converted, *inputs_of(model))
    ours, theirs = model.layers[1], converted.layers[1]
    for name in ("moving_stddev", "renorm_stddev"):
        np.testing.assert_allclose(
            numpy(getattr(theirs, name)), numpy(ours.moving_stddev), rtol=1e-6
        )
    np.testing.assert_array_equal(numpy(theirs.renorm_mean), numpy(ours.moving_mean))


def test_a_spread_below_epsilon():
    model = keras.Sequential([keras.Input((2,)), brn.BatchRenormalization(epsilon=0.25, name="n")])
    layer = model.layers[0]
    layer.moving_stddev.assign([0.5, 1.0])  # 0.5^2 = epsilon: the variance is 0.
    assert numpy(brn.convert(model, KERAS).layers[0].moving_variance).tolist() == [0.0, 0.75]
    layer.moving_stddev.assign([0.25, 1.0])  # Taken for 0.5.
    converted = brn.convert(model, KERAS)
    assert numpy(converted.layers[0].moving_variance).tolist() == [0.0, 0.75]
    assert_predicts_alike(model, converted, *inputs_of(model))


def test_an_epsilon_that_leaves_no_variance():
    model = keras.Sequential([keras.Input((2,)), KERAS(epsilon=0.25, name="n")])
    model.layers[0].moving_variance.assign([0.25, 1.0])
    with pytest.raises(ValueError, match=r"pass epsilon=0.5 .*layer='n', epsilon=1.0"):
        brn.convert(model, KERAS, epsilon=1.0)
    mended = brn.convert(model, KERAS, epsilon=0.5)
    assert numpy(mended.layers[0].moving_variance).tolist() == [0.0, 0.75]
    assert_predicts_alike(model, mended, *inputs_of(model))


def test_frozen_layers():
    model = branching()
    model.get_layer("block").trainable = False
    model.get_layer("block").get_layer("inner_norm").trainable = True
    model.get_layer("shared").trainable = False
    converted = brn.convert(model)
    flags = [(layer.name, layer.trainable) for layer in every(model)]
    assert [(layer.name, layer.trainable) for layer in every(converted)] == flags
    assert ("shared", False) in flags
    names = [weight.path for weight in model.trainable_weights]
    assert [weight.path for weight in converted.trainable_weights] == names
    model.trainable = False
    assert not brn.convert(model).trainable_weights


@pytest.mark.parametrize(
    "choice",
    ["*_1", ["norm_1"], lambda layer: layer.epsilon < 0.01],
    ids=["pattern", "list", "function"],
)
def test_some_layers(choice):
    model = randomize(sequential())
    converted = brn.convert(model, layers=choice)
    assert [type(layer) for layer in (converted.layers[1], converted.layers[4])] == [
        *(brn.BatchRenormalization, KERAS),
    ]
    assert_predicts_alike(model, converted, *inputs_of(model))


def test_choices_of_nothing():
    with pytest.raises(
        ValueError, match=r"layers=\['conv\*'\].*has 'plain/norm_1', 'plain/norm_2'"
    ):
        brn.convert(sequential(), layers=["norm_1", "conv*"])
    with pytest.raises(ValueError, match=r"no batch normalization.*model='bare'"):
        brn.convert(keras.Sequential([keras.Input((2,)), layers.Dense(1)], name="bare"))
    with pytest.raises(ValueError, match=r"to=<class .*LayerNormalization"):
        brn.convert(sequential(), layers.LayerNormalization)


class Hiding(layers.Layer):
    """A custom layer, not registered, with normalization inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.norm = KERAS(name="hidden")

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build((None, 3))

    def call(self, inputs, training=None):
        return self.norm(self.dense(inputs), training=training)


class OwnNormalization(KERAS):
    pass


def with_unreachable_layers():
    return keras.Sequential(
        [
            keras.Input((5,)),
            KERAS(name="norm"),
            Hiding(name="hiding"),
            OwnNormalization(name="own"),
            layers.Dense(2),
        ]
    )


def test_unreachable_layers():
    model = randomize(with_unreachable_layers())
    with pytest.raises(ValueError, match=r"cannot be reached: '.*/hidden', '.*/own'.*strict=True"):
        brn.convert(model)
    with pytest.warns(
        UserWarning, match=r"cannot be reached: '.*/hidden', '.*/own'.*stay as they are"
    ):
        converted = brn.convert(model, strict=False)
    assert kinds(converted) == {brn.BatchRenormalization, KERAS, OwnNormalization}
    assert_predicts_alike(model, converted, *inputs_of(model))
    chosen = brn.convert(model, layers="norm")
    assert_predicts_alike(model, chosen, *inputs_of(model))


def test_subclassed_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = KERAS(name="hidden")

        def call(self, inputs):
            return self.norm(inputs)

    class WithAnArgument(keras.Model):
        def __init__(self, width):
            x = keras.Input((width,))
            super().__init__(x, KERAS(name="norm")(x), name="widths")

    subclassed = Subclassed()
    subclassed(np.zeros((1, 3), "float32"))
    with pytest.raises(ValueError, match=r"/hidden'.*can be taken apart.*a Subclassed"):
        brn.convert(subclassed)
    with pytest.warns(UserWarning, match=r"/hidden'.*stay as they are.*comes back itself"):
        assert brn.convert(subclassed, strict=False) is subclassed
    assert type(subclassed.norm) is KERAS
    model = randomize(WithAnArgument(3))
    with pytest.raises(ValueError, match=r"can be taken apart.*model='widths', a WithAnArgument"):
        brn.convert(model)
    converted = brn.convert(keras.Model(model.inputs, model.outputs))
    assert_predicts_alike(model, converted, *inputs_of(model))


def test_a_class_with_its_own_training_step_is_kept():
    class Doubling(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return 2.0 * super().compute_loss(*args, **kwargs)

    x = keras.Input((3,))
    model = randomize(Doubling(x, KERAS()(x)))
    converted = brn.convert(model)
    assert type(converted) is Doubling
    assert_predicts_alike(model, converted, *inputs_of(model))


def test_a_layer_without_a_configuration_is_named():
    class Opaque(layers.Layer):
        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)
            self.function = function
            self.scale = self.add_weight(shape=(), name="scale")

        def call(self, inputs):
            return self.scale * self.function(inputs)

    model = keras.Sequential([keras.Input((2,)), Opaque(abs, name="opaque"), KERAS()])
    with pytest.raises(ValueError, match=r"(?s)from_config.*layer='opaque', a Opaque"):
        brn.convert(model)


def test_a_block_that_takes_no_keyword_arguments():
    class Fixed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = KERAS(name="hidden")

        def build(self, input_shape):
            self.norm.build(input_shape)

        def call(self, inputs):
            return self.norm(inputs)

    model = keras.Sequential([keras.Input((3,)), Fixed(), KERAS(name="norm")])
    with pytest.raises(ValueError, match=r"(?s)accept \*\*kwargs.*define `get_config`.*a Fixed"):
        brn.convert(model, layers="norm")


def test_a_block_whose_copy_has_other_weights():
    class Forgetful(layers.Layer):
        def __init__(self, use_bias=False, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(3, use_bias=use_bias)

        def build(self, input_shape):
            self.dense.build(input_shape)

        def call(self, inputs):
            return self.dense(inputs)

        def get_config(self):
            return super().get_config()

    model = keras.Sequential([keras.Input((3,)), Forgetful(True, name="forgetful"), KERAS()])
    with pytest.raises(
        ValueError, match=r"other weights.*layer='forgetful', a Forgetful, with 2 .*copy has 1"
    ):
        brn.convert(model)


def test_state_that_is_more_than_weights():
    normalization = layers.Normalization()
    normalization.adapt(np.array([[1.0, 2.0], [3.0, 6.0]]))
    model = randomize(keras.Sequential([keras.Input((2,)), layers.Dense(2), KERAS()]))
    model = keras.Sequential([keras.Input((2,)), normalization, layers.Dropout(0.5, seed=3), model])
    model(np.ones((2, 2), "float32"), training=True)  # The seed moves on.
    converted = brn.convert(model)
    assert_predicts_alike(model, converted, *inputs_of(model))
    seeds = [m.layers[1].seed_generator.state for m in (model, converted)]
    np.testing.assert_array_equal(numpy(seeds[1]), numpy(seeds[0]))


def test_a_model_that_is_not_built():
    model = keras.Sequential([layers.Dense(3), KERAS(name="norm")])
    converted = brn.convert(model)
    assert not converted.built
    assert type(converted.layers[1]) is brn.BatchRenormalization


def test_nested_models_that_share_a_layer():
    norm = KERAS(name="norm")
    x = keras.Input((3,))
    first = keras.Model(x, norm(layers.Dense(3, name="dense")(x)), name="first")
    second = keras.Model(x, layers.ReLU(name="relu")(norm(x)), name="second")
    y = keras.Input((3,))
    model = randomize(keras.Model(y, [second(first(y)), first(second(y))]))
    converted = brn.convert(model)
    inner = [converted.get_layer(name).get_layer("norm") for name in ("first", "second")]
    assert inner[0] is inner[1]
    data = inputs_of(model)[0]
    for got, expected in zip(converted(data), model(data), strict=True):
        np.testing.assert_allclose(numpy(got), numpy(expected), rtol=1e-5, atol=1e-5)


def test_masks_stay():
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=True, name="embedding")(tokens)
    model = randomize(keras.Model(tokens, KERAS(name="norm", momentum=0.0)(x)))
    model = brn.convert(model)
    vectors = numpy(model.get_layer("embedding").embeddings)
    model(np.array([[1, 2, 0, 0]]), training=True)
    moved = numpy(model.get_layer("norm").moving_mean)
    np.testing.assert_allclose(moved, (vectors[1] + vectors[2]) / 2, rtol=1e-5)


def trained(optimizer, **arguments):
    model = randomize(sequential())
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=False, **arguments)
    (x,) = inputs_of(model)
    model.fit(x, np.ones((4, 3), "float32"), verbose=0)
    return model


def test_a_compiled_model_goes_on():
    model = trained(keras.optimizers.SGD(0.02, momentum=0.9))
    converted = brn.convert(model, brn.BatchNormalization)
    assert converted.optimizer is not model.optimizer
    for got, expected in zip(converted.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numpy(got), numpy(expected))
    assert int(numpy(converted.optimizer.iterations)) == 1
    assert (converted.loss, converted.jit_compile) == ("mse", False)
    # The same layers, so the same training: momentum, random seeds and all.
    (x,) = inputs_of(model)
    histories = [
        m.fit(x, np.ones((4, 3), "float32"), verbose=0, shuffle=False).history
        for m in (model, converted)
    ]
    assert histories[0].keys() == histories[1].keys() == {"loss", "mae"}
    for got, expected in zip(converted.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_mixed_precision_goes_on():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = trained(keras.optimizers.SGD(0.01, momentum=0.9))
        converted = brn.convert(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert type(converted.optimizer) is keras.optimizers.LossScaleOptimizer
    assert converted.layers[1].compute_dtype == "float16"
    for got, expected in zip(converted.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numpy(got), numpy(expected))
    assert_predicts_alike(model, converted, *inputs_of(model), rtol=2e-3)
    # Outside of the policy's scope too.
    assert_predicts_alike(model, brn.convert(model), *inputs_of(model), rtol=2e-3)


def test_what_cannot_be_compiled_from_its_configuration():
    def error(y, p):
        return keras.ops.mean(y - p)

    model = sequential()
    model.compile("sgd", loss=error)
    with pytest.warns(UserWarning, match=r"not compiled.*'error'"):
        converted = brn.convert(model)
    assert not converted.compiled


def test_an_optimizer_of_other_weights_starts_afresh():
    model = trained(keras.optimizers.SGD(0.01, momentum=0.9))
    model.layers[0].trainable = False
    with pytest.warns(UserWarning, match="starts afresh"):
        converted = brn.convert(model)
    assert int(numpy(converted.optimizer.iterations)) == 0


def test_an_optimizer_of_other_kinds_of_weights_starts_afresh():
    """Beta in place of gamma: the slots would fit, and be those of another weight."""
    model = keras.Sequential([keras.Input((2,)), KERAS(center=False)])
    model.compile(keras.optimizers.SGD(0.0, momentum=0.9), "mse")
    model.fit(np.ones((2, 2)), np.zeros((2, 2)), verbose=0)
    with pytest.warns(UserWarning, match=r"starts afresh.*`scale` or `center`"):
        converted = brn.convert(model, scale=False, center=True)
    assert int(numpy(converted.optimizer.iterations)) == 0


def test_converted_models_are_saved(tmp_path):
    model = brn.convert(randomize(branching()))
    model.save_weights(tmp_path / "model.weights.h5")
    other = randomize(brn.convert(model), seed=5)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_predicts_alike(model, other, *inputs_of(model))
    model = brn.convert(randomize(sequential()))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_predicts_alike(model, loaded, *inputs_of(model))


def test_a_converted_model_needs_only_keras(tmp_path):
    model = brn.convert(randomize(sequential(brn.BatchRenormalization)), KERAS)
    model.save(tmp_path / "model.keras")
    assert "brn" not in json.dumps(json.loads(model.to_json()))
    assert_predicts_alike(
        model, keras.saving.load_model(tmp_path / "model.keras"), *inputs_of(model)
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras refuses it on other backends")
def test_synchronized_layers():
    model = keras.Sequential([keras.Input((2,)), KERAS(synchronized=True)])
    assert brn.convert(model).layers[0].synchronized
    assert brn.convert(brn.convert(model), KERAS).layers[0].synchronized


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras refuses it on other backends")
def test_synchronized_layers_keras_refuses():
    model = keras.Sequential(
        [keras.Input((2,)), brn.BatchNormalization(synchronized=True, name="s")]
    )
    with pytest.raises(ValueError, match=r"'s' cannot become a keras .*synchronized=True"):
        brn.convert(model, KERAS)
    assert not brn.convert(model, KERAS, synchronized=False).layers[0].synchronized


def dense_and_norm(**arguments):
    layers = [keras.Input((3,)), keras.layers.Dense(3), KERAS(name="norm", **arguments)]
    return randomize(keras.Sequential(layers))


@pytest.mark.parametrize(
    ("argument", "name", "neutral"), [("scale", "gamma", 1.0), ("center", "beta", 0.0)]
)
def test_gamma_and_beta_are_dropped_only_where_nothing_is_lost(argument, name, neutral):
    model = dense_and_norm()
    with pytest.raises(ValueError, match=rf"'norm' has a {name}.*Received: {argument}=False"):
        brn.convert(model, **{argument: False})
    variable = getattr(model.get_layer("norm"), name)
    variable.assign(np.full(3, neutral))
    converted = brn.convert(model, **{argument: False})
    assert getattr(converted.get_layer("norm"), name) is None
    assert_predicts_alike(model, converted, *inputs_of(model))
    # Whatever they are initialized with.
    starts = {f"{name}_initializer": keras.initializers.Constant(7.0)}
    back = brn.convert(converted, KERAS, **{argument: True}, **starts)
    np.testing.assert_array_equal(numpy(getattr(back.get_layer("norm"), name)), [neutral] * 3)


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda model: brn.convert(None), "must be a Keras model.*Received: model=None"),
        (lambda model: brn.convert("a.keras"), "load_model.*Received: model='a.keras'"),
        (lambda model: brn.convert(model.layers[1]), "Sequential.*model=<BatchNormalization"),
        (lambda model: brn.convert(model, axis=1), "belongs to the model.*Received: axis=1"),
        (lambda model: brn.convert(model, trainable=False), "to the model.*trainable=False"),
        (lambda model: brn.convert(model, layers=model.layers[1]), "layers=<BatchNormalization"),
        (lambda model: brn.convert(model, layers=3), "Received: layers=3"),
        (lambda model: brn.convert(model, brn.paper_clipping(9)), "r_max= and d_max=.*to=\\("),
        (lambda model: brn.convert(model, layers=[model.layers[0]]), "Received: layers="),
    ],
)
def test_wrong_arguments(convert, message):
    with pytest.raises(ValueError, match=message):
        convert(dense_and_norm())


def dense_and_norm_twice():
    inputs = keras.Input((3,))
    hidden = inputs
    for _ in range(2):
        hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4)(hidden))
    return keras.Model(inputs, hidden)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_saved_before_the_conversion_name_the_way_out(tmp_path, suffix):
    """Once: warnings are errors in these tests, and are so again afterwards."""
    model, path = dense_and_norm_twice(), tmp_path / f"before{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    converted = brn.convert(model)
    before = list(warnings.filters)
    with pytest.raises(ValueError, match=r"then call brn\.convert\. Received: 0 weights"):
        converted.load_weights(path)
    assert warnings.filters == before


def test_a_file_of_the_old_format_is_refused_and_converts_as_a_model(tmp_path):
    """Keras compares numbers of weights by itself, before a layer sees any."""
    model, path = dense_and_norm_twice(), tmp_path / "before.h5"
    model.save(path)
    with pytest.raises(ValueError, match=r"expects 5 weight\(s\)\. Received 4 saved"):
        brn.convert(model).load_weights(path)
    converted = brn.convert(keras.saving.load_model(path))
    x = np.ones((2, 3))
    np.testing.assert_allclose(numpy(converted(x)), numpy(model(x)), rtol=1e-5, atol=1e-6)
