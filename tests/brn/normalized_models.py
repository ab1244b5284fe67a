"""Models with normalization layers in every place where a model can have them."""

import keras
import numpy as np
from harness import numpy, tensor
from keras import layers, ops

IMAGE = (6, 6, 3)


def randomize(model, seed=0):
    """Give every weight a value that shows where it is missed; spreads are positive."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("moving_variance", "moving_stddev", "renorm_stddev"):
            value = rng.uniform(0.2, 4.0, variable.shape)
        elif variable.name == "gamma":
            value = rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-1, 1], variable.shape)
        elif variable.name in ("step", "mean", "variance", "count"):
            continue  # those of brn.BatchRenormalization and keras.layers.Normalization
        else:
            value = rng.normal(
                0.0, 1.0 / max(np.prod(variable.shape[:-1]), 1) ** 0.5, variable.shape
            )
        variable.assign(value)
    return model


def predict(model, *inputs):
    inputs = [tensor(x) for x in inputs]
    return numpy(model(inputs[0] if len(inputs) == 1 else inputs, training=False))


def assert_predicts_alike(model, other, *inputs, rtol=1e-5):
    """Agreement within `rtol` of the size of the outputs, which must say something."""
    expected = predict(model, *inputs)
    assert expected.std() > 0
    atol = rtol * np.abs(expected).max()
    np.testing.assert_allclose(predict(other, *inputs), expected, rtol=0, atol=atol)


def sequential(normalization=layers.BatchNormalization):
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, name="first"),
            normalization(name="norm_1"),
            layers.Dropout(0.3, seed=1, name="dropout"),
            layers.Dense(3, name="second"),
            normalization(name="norm_2", epsilon=0.1, scale=False),
        ],
        name="plain",
    )


def branching(normalization=layers.BatchNormalization):
    """Shared, nested, wrapped, channels first, without center, behind a Lambda and an operation."""
    image, vector = keras.Input(IMAGE, name="image"), keras.Input((4,), name="vector")
    shared = normalization(name="shared", momentum=0.9)
    block = keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.Conv2D(4, 3, name="inner_conv"),
            normalization(name="inner_norm", center=False),
        ],
        name="block",
    )
    x = layers.Conv2D(3, 3, padding="same", name="conv")(image)
    x = shared(x) + shared(image)
    x = normalization(axis=1, name="first_axis")(x)
    x = layers.Lambda(lambda t: np.float32(2.0) * t, name="double")(block(x))
    x = layers.TimeDistributed(normalization(name="each_row"), name="rows")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(ops.relu(x))
    x = layers.Concatenate(name="joined")([x, normalization(name="vectors")(vector)])
    return keras.Model([image, vector], layers.Dense(2, name="head")(x), name="branching")


def inputs_of(model, batch=4, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.normal(1.0, 2.0, (batch, *x.shape[1:])).astype("float32") for x in model.inputs]
