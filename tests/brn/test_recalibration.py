"""Statistics after `brn.recalibrate` are the moments of what each layer receives."""

import keras
import numpy as np
import pytest
from harness import BACKEND, numpy
from keras import layers
from normalized_models import branching, inputs_of, randomize, sequential

import brn
from brn.models.normalizations import KINDS, statistics

KERAS = layers.BatchNormalization


def mixed():
    """Keras's layers, plain and renormalizing, and ours, in one model."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4),
            brn.BatchRenormalization(name="a"),
            layers.Dense(4, activation="tanh"),
            KERAS(name="b", scale=False),
            layers.Dense(3, activation="tanh"),
            brn.BatchNormalization(name="c", microbatch_size=2),
            layers.Dense(3, activation="tanh"),
            KERAS(name="d", renorm=True),
            layers.Dropout(0.5),
        ]
    )


def small():
    """Two layers, where it is the data that matter."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            brn.BatchRenormalization(name="a"),
            layers.Dense(3, activation="tanh"),
            KERAS(name="b", scale=False),
        ]
    )


def received(model, x, name):
    """What the layer of this name receives when the model predicts `x`."""
    layer = model.get_layer(name)
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return numpy(keras.Model(inputs, layer.input)(x, training=False))


def assert_exact(model, x, names="abcd", rtol=1e-4):
    for name in names:
        expected = received(model, x, name)
        mean, variance = statistics(model.get_layer(name))
        atol = rtol * expected.std(0).max()
        np.testing.assert_allclose(mean, expected.mean(0), rtol=0, atol=atol, err_msg=name)
        np.testing.assert_allclose(variance, expected.var(0), rtol, 1e-6, err_msg=name)


def data(rng, examples=24):
    return rng.normal(1.0, 2.0, (examples, 5)).astype("float32")


def test_one_layer_by_mental_arithmetic():
    model = keras.Sequential([keras.Input((1,)), brn.BatchRenormalization(epsilon=7.0)])
    layer = model.layers[0]
    layer.step.assign(5)
    brn.recalibrate(model, np.array([[1.0], [7.0], [1.0], [7.0]], "float32"), batch_size=3)
    # Mean 4, variance 9, sqrt(9 + 7) = 4.
    assert [float(numpy(value)[0]) for value in (layer.moving_mean, layer.moving_stddev)] == [4, 4]
    assert int(numpy(layer.step)) == 5
    (other,) = brn.convert(model, KERAS).layers
    brn.recalibrate(keras.Sequential([keras.Input((1,)), other]), np.array([[0.0], [2.0]]))
    assert [float(numpy(value)[0]) for value in (other.moving_mean, other.moving_variance)] == [
        1,
        1,
    ]


@pytest.mark.parametrize("batch_size", [24, 7])
def test_exact_whatever_the_batches(rng, batch_size):
    model, x = randomize(mixed()), data(rng)
    others = {
        value.path: numpy(value)
        for value in model.variables
        if "moving" not in value.path and "renorm_" not in value.path
    }
    assert brn.recalibrate(model, x, batch_size=batch_size) is None
    assert_exact(model, x)
    layer = model.get_layer("d")
    assert (numpy(layer.renorm_mean) == numpy(layer.moving_mean)).all()
    assert (numpy(layer.renorm_stddev) == numpy(layer.moving_stddev)).all()
    np.testing.assert_allclose(
        numpy(layer.renorm_stddev) ** 2, numpy(layer.moving_variance) + 1e-3, rtol=1e-5
    )
    for value in model.variables:
        if value.path in others:
            np.testing.assert_array_equal(numpy(value), others[value.path])


def test_one_pass(rng):
    """Exact for one batch, and for the first layer always."""
    model, x = randomize(mixed()), data(rng)
    brn.recalibrate(model, x, batch_size=24, passes=1)
    assert_exact(model, x)
    brn.recalibrate(randomize(model), x, batch_size=4, passes=1)
    assert_exact(model, x, "a")
    with pytest.raises(AssertionError):
        assert_exact(model, x, "b")
    brn.recalibrate(model, x, batch_size=4, passes=2)
    assert_exact(model, x, "ab")


def test_a_training_batch_then_predicts_as_it_was_trained(rng):
    """On one full batch, inference computes what plain batch normalization trains with."""
    model, x = sequential(), data(rng)
    brn.recalibrate(model, x, batch_size=24)
    norm = model.layers[1]
    hidden = model.layers[0](x)
    np.testing.assert_allclose(
        numpy(norm(hidden, training=False)), numpy(norm(hidden, training=True)), atol=1e-5
    )


def test_large_means(rng):
    x = (1e6 + rng.normal(size=(64, 3))).astype("float32")
    for kind in KINDS:
        model = keras.Sequential([keras.Input((3,)), kind()])
        brn.recalibrate(model, x, batch_size=8)
        mean, variance = statistics(model.layers[0])
        np.testing.assert_allclose(mean, x.astype("float64").mean(0), rtol=1e-7)
        np.testing.assert_allclose(variance, x.astype("float64").var(0), rtol=1e-4)


def test_shared_nested_wrapped_and_other_axes():
    model = randomize(branching())
    inputs = inputs_of(model, batch=6)
    brn.recalibrate(model, inputs, batch_size=4)
    layer, image = model.get_layer("shared"), inputs[0].astype("float64")
    convolved = numpy(model.get_layer("conv")(image))
    both = np.concatenate([convolved, image]).reshape(-1, 3)
    mean, variance = statistics(layer)
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, both.var(0), rtol=1e-4)
    x = received(model, inputs, "first_axis")
    mean, variance = statistics(model.get_layer("first_axis"))
    np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 2, 3)), rtol=1e-4)
    x = received(model, inputs, "rows")
    mean, variance = statistics(model.get_layer("rows").layer)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, x.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__[:5]}{kind.__name__}")
def test_masks(kind):
    tokens = keras.Input((4,), dtype="int32")
    vectors = layers.Embedding(5, 3, mask_zero=True, name="embedding")(tokens)
    model = randomize(keras.Model(tokens, kind(name="norm")(vectors)))
    table = numpy(model.get_layer("embedding").embeddings)
    before = statistics(model.get_layer("norm"))
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0]])
    brn.recalibrate(model, x, batch_size=1)
    mean, variance = statistics(model.get_layer("norm"))
    np.testing.assert_allclose(mean, table[[1, 2, 3]].mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, table[[1, 2, 3]].var(0), rtol=1e-4)
    # Where nothing counts the averages stay.
    randomize(model)
    brn.recalibrate(model, np.zeros((2, 4), "int32"))
    for got, expected in zip(statistics(model.get_layer("norm")), before, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.x[6 * index : 6 * index + 6], np.zeros(6)


def as_dataset(x):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, np.zeros(24))).shuffle(24).batch(7)


def as_loader(x):
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.as_tensor(x), torch.zeros(24))
    return torch.utils.data.DataLoader(pairs, batch_size=5)


@pytest.mark.parametrize(
    "form",
    [
        Batches,
        as_dataset,
        as_loader,
        lambda x: ((part, None) for part in np.split(x, 3)),
        lambda x: iter(np.split(x, 2)),
        lambda x: [(part, None) for part in np.split(x, 3)],
    ],
    ids=["PyDataset", "tf.data", "DataLoader", "generator of pairs", "iterator", "list"],
)
def test_every_form_of_data(rng, form):
    model, x = randomize(small()), data(rng)
    brn.recalibrate(model, form(x))
    assert_exact(model, x, "ab")


def test_some_steps(rng):
    model, x = randomize(small()), data(rng)
    brn.recalibrate(model, x, steps=2, batch_size=5)
    assert_exact(model, x[:10], "ab")


def unchanged(model, before):
    for value, expected in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(value), expected, err_msg=value.path)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())


def endless(x):
    while True:
        yield x


@pytest.mark.parametrize(
    ("make", "steps", "message"),
    [
        (lambda x: x, 4, "short of 4 batches.*Received: 3 batches, steps=4"),
        (lambda x: iter([x]), 2, "short of 2 batches.*Received: 1 batch"),
        (lambda x: iter([]), None, "have no batch.*Received: 0 batches"),
        (lambda x: x[:0], None, "have no batch.*Received: 0 batches"),
        (lambda x: [(x, 0), ((x, x), 0)], None, "pass x alone.*Received: 2 arrays"),
        (lambda x: 5, None, "Received: data=5"),
        (lambda x: ["abc"], None, "Received: inputs='abc'"),
        (lambda x: (), None, r"Received: inputs=\(\)"),
        (lambda x: np.array(7), None, r"Received: inputs=array\(7\)"),
        (lambda x: np.where(x == x.max(), np.nan, x), None, "not finite.*layer='a'"),
    ],
    ids=[
        *("arrays", "iterator", "nothing", "empty array", "two inputs in a batch"),
        *("number", "texts", "no array", "scalar", "NaN"),
    ],
)
def test_a_pass_that_fails_changes_nothing(rng, make, steps, message):
    model = randomize(small())
    before = [numpy(value) for value in model.variables]
    with pytest.raises(ValueError, match=message):
        brn.recalibrate(model, make(data(rng)), steps=steps, batch_size=8)
    unchanged(model, before)


def test_errors_from_the_data_change_nothing(rng):
    class DiskError(Exception):
        pass

    class Failing(Batches):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            if self.reads > 6:
                raise DiskError
            return super().__getitem__(index)

    model = randomize(small())
    before = [numpy(value) for value in model.variables]
    with pytest.raises(DiskError):
        brn.recalibrate(model, Failing(data(rng)))
    unchanged(model, before)


def test_data_that_shrink(rng):
    class Shrinking:
        def __init__(self, parts):
            self.parts = parts

        def __iter__(self):
            self.parts = self.parts[1:]
            return iter(self.parts)

    model = randomize(small())
    with pytest.raises(ValueError, match=r"short of 3 batches.*Received: 2 batches, steps=None"):
        brn.recalibrate(model, Shrinking(np.split(data(rng), 4)))


def test_data_that_do_not_end(rng):
    class Endless(Batches):
        num_batches = None

    model, x = randomize(small()), data(rng)
    with pytest.raises(ValueError, match=r"do not end.*steps=None, data=.*Endless"):
        brn.recalibrate(model, Endless(x))
    brn.recalibrate(model, Endless(x), steps=4)
    assert_exact(model, x, "ab")
    brn.recalibrate(randomize(model), endless(x), steps=1)
    assert_exact(model, x, "ab")
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match="do not end"):
            brn.recalibrate(model, as_dataset(x).repeat())


def test_frozen_and_chosen_layers(rng):
    model, x = randomize(small()), data(rng)
    model.get_layer("a").trainable = False
    kept = statistics(model.get_layer("a"))
    brn.recalibrate(model, x)
    np.testing.assert_array_equal(statistics(model.get_layer("a")), kept)
    assert_exact(model, x, "b")  # given what a does with its averages
    brn.recalibrate(model, x, layers=["a"])
    assert_exact(model, x, "a")
    model.trainable = False
    with pytest.raises(ValueError, match=r"All normalization layers are frozen.*layers=None"):
        brn.recalibrate(model, x)


def test_layers_inside_custom_layers_and_subclassed_models(rng):
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = KERAS(name="inside")
            self.unused = KERAS(name="unused")

        def build(self, shape):
            self.norm.build(shape)
            self.unused.build(shape)

        def call(self, inputs):
            return self.norm(inputs)

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.block, self.head = Block(), layers.Dense(2)

        def call(self, inputs, training=None):
            return self.head(self.block(inputs))

    model, x = Subclassed(), data(rng)
    with pytest.raises(ValueError, match=r"no weights yet.*built=False"):
        brn.recalibrate(model, x)
    model(x)
    brn.recalibrate(model, x, batch_size=5)
    mean, variance = statistics(model.block.norm)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-4)
    with pytest.raises(ValueError, match=r"calls none of the layers.*unused"):
        brn.recalibrate(model, x, layers="unused")


def test_half_precision(rng):
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential(
        [keras.Input((5,)), brn.BatchRenormalization(dtype=policy), KERAS(dtype=policy)]
    )
    x = data(rng) + np.float32(1e5)  # more than float16 holds
    brn.recalibrate(model, x)
    mean, variance = statistics(model.layers[0])
    np.testing.assert_allclose(mean, x.astype("float64").mean(0), rtol=1e-7)
    np.testing.assert_allclose(variance, x.astype("float64").var(0), rtol=1e-3)
    np.testing.assert_allclose(statistics(model.layers[1])[1], 1.0, rtol=1e-2)


def test_training_goes_on_afterwards(rng):
    """The layers are themselves again, under compiled functions made before and after."""
    model, x = mixed(), data(rng)
    model.compile("sgd", "mse")
    y = np.zeros((24, 3), "float32")
    model.fit(x, y, verbose=0)
    before = statistics(model.get_layer("a"))[0]
    brn.recalibrate(model, x)
    after = statistics(model.get_layer("a"))[0]
    assert (before != after).all()
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, numpy(model(x, training=False)), atol=1e-5)
    model.fit(x + 1, y, verbose=0)
    assert int(numpy(model.get_layer("a").step)) == 2
    assert (statistics(model.get_layer("a"))[0] != after).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": None}, "must be a positive integer. Received: batch_size=None"),
        ({"batch_size": 0}, "must be a positive integer. Received: batch_size=0"),
        ({"steps": 0}, "None for all batches. Received: steps=0"),
        ({"passes": 0}, "None for as many as there are layers. Received: passes=0"),
    ],
)
def test_numbers_of_batches(rng, arguments, message):
    with pytest.raises(ValueError, match=message):
        brn.recalibrate(randomize(small()), data(rng), **arguments)


@pytest.mark.parametrize("wrong", [None, "abc"])
def test_data_that_are_none(wrong):
    with pytest.raises(ValueError, match=f"must be arrays.*Received: data={wrong!r}"):
        brn.recalibrate(randomize(small()), wrong)


def test_labels_are_not_inputs(rng):
    x = data(rng)
    with pytest.raises(ValueError, match=r"pass x alone.*Received: 2 arrays"):
        brn.recalibrate(randomize(small()), (x, x[:, 0]))


def test_what_is_no_model(rng):
    with pytest.raises(ValueError, match="Received: model=None"):
        brn.recalibrate(None, data(rng))


def optional_inputs():
    """Its second input may be missing."""
    x, more = keras.Input((5,), name="x"), keras.Input((5,), name="more", optional=True)

    class Sum(layers.Layer):
        def call(self, x, more):
            return x if more is None else x + more

    y = brn.BatchNormalization(name="a")(Sum()(x, more))
    model = keras.Model({"x": x, "more": more}, y)
    model.compile("sgd", "mse")
    return model


def test_optional_inputs_may_be_missing(rng):
    """As arrays, in batches, and for the monitor, which `fit` takes them with."""
    x = data(rng)
    inputs = {"x": x, "more": None}
    for given in (inputs, iter([(inputs, 0)])):
        model = optional_inputs()
        brn.recalibrate(model, given)
        np.testing.assert_allclose(statistics(model.get_layer("a"))[0], x.mean(0), rtol=1e-4)
    (found,) = brn.corrections(model, inputs).values()
    np.testing.assert_allclose(found.ratio, 1.0, rtol=1e-4)
    monitor = brn.callbacks.RenormMonitor(inputs)
    model.fit(inputs, x, batch_size=24, verbose=0, callbacks=[monitor])
    assert [row["step"] for row in monitor.history] == [0, 1]
    with pytest.raises(ValueError, match=r"must be arrays.*Received: inputs={.*'x': None"):
        brn.recalibrate(model, {"x": None, "more": None})


def test_a_dictionary_may_hold_more_than_the_model_takes(rng):
    inputs, x = keras.Input((5,), name="x"), data(rng)
    model = keras.Model([inputs], KERAS(name="a")(inputs))
    brn.recalibrate(model, {"x": x, "weights": x[:, 0]})
    np.testing.assert_allclose(statistics(model.get_layer("a"))[0], x.mean(0), rtol=1e-4)
