"""The networks; how they normalize is an argument.

Each normalization stands after a convolution and before its ReLU, with gamma fixed to 1 (Ioffe
2017, section 4). `inception_small` is Inception in small, for images of 8 to 64 pixels;
`inception_v3` is the paper's network, for images of 75 pixels and more, 299 in the paper.
"""

from collections.abc import Callable

import keras
from keras import layers

import brn

NETWORKS = ("inception_small", "inception_v3")


def normalization(
    kind: str, group: int, total_steps: int, alpha: float, epsilon: float
) -> Callable[[], keras.layers.Layer]:
    """Returns what makes the normalization layers of a network.

    Args:
        kind: "bn", batch normalization, or "brn", Batch Renormalization with the paper's bounds,
            scaled to the run's length.
        group: examples normalized together.
        total_steps: length of the run, in training steps.
        alpha: how far the moving statistics move in a step; 1 - `momentum`.
        epsilon: added to the variance.

    Raises:
        ValueError: for another kind.
    """
    settings = {
        "momentum": 1 - alpha,
        "epsilon": epsilon,
        "scale": False,
        "microbatch_size": group,
    }
    if kind == "bn":
        return lambda: brn.BatchNormalization(**settings)
    if kind == "brn":
        r_max, d_max = brn.paper_clipping(total_steps)
        return lambda: brn.BatchRenormalization(r_max=r_max, d_max=d_max, **settings)
    raise ValueError(f"Expected a normalization 'bn' or 'brn'. Received: kind={kind!r}")


def build(
    network: str,
    image_shape: tuple[int, int, int],
    classes: int,
    normalize: Callable[[], keras.layers.Layer],
    width: int = 16,
) -> keras.Model:
    """Builds a network from images, float32 `(batch, height, width, channels)`, to logits.

    Args:
        network: one of `NETWORKS`.
        image_shape: `(height, width, channels)`.
        classes: number of logits.
        normalize: makes a normalization layer.
        width: channels of `inception_small`'s first convolution; the rest grow with it.

    Raises:
        ValueError: for another network.
    """
    if network == "inception_small":
        return inception_small(image_shape, classes, normalize, width)
    if network == "inception_v3":
        return inception_v3(image_shape, classes, normalize)
    raise ValueError(f"Expected a network of {NETWORKS}. Received: network={network!r}")


def inception_small(image_shape, classes, normalize, width=16):
    """Inception in small: a stem, then Inception modules with a halving between two of them.

    Images are halved until 8 pixels or fewer remain on the shorter side, each time after a
    module, and once more before the last module.
    """

    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(normalize()(x))

    def module(x, filters):
        """Four branches: 1x1; 1x1 then 3x3; 1x1 then two 3x3; 3x3 average then 1x1."""
        single = convolution(x, filters, 1)
        double = convolution(convolution(x, filters, 1), filters, 3)
        triple = convolution(convolution(convolution(x, filters, 1), filters, 3), filters, 3)
        pooled = convolution(layers.AveragePooling2D(3, strides=1, padding="same")(x), filters, 1)
        return layers.Concatenate()([single, double, triple, pooled])

    def halve(x, filters):
        """A 3x3 convolution with stride 2 beside a 3x3 maximum with stride 2."""
        pooled = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        return layers.Concatenate()([convolution(x, filters, 3, strides=2), pooled])

    inputs = keras.Input(image_shape, name="images")
    x = convolution(inputs, width, 3)
    side, filters = min(image_shape[:2]), width
    while side > 8:
        x = module(halve(x, filters), filters)
        side, filters = side // 2, 2 * filters
    x = module(halve(x, filters), filters)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="inception_small")


def inception_v3(image_shape, classes, normalize):
    """Inception-v3 as in `keras.applications`, its batch normalization layers replaced."""
    original = keras.applications.InceptionV3(
        weights=None, input_shape=image_shape, classes=classes, classifier_activation=None
    )

    def replace(layer):
        if isinstance(layer, keras.layers.BatchNormalization):
            return normalize()
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(original, clone_function=replace)
