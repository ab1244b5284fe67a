"""The networks; how they normalize is an argument.

Each normalization stands after a convolution and before its ReLU, with gamma fixed to 1 (Ioffe
2017, section 4). `inception_small` is Inception in small, for images of 8 to 64 pixels; `deep` one
of as many normalization layers as one likes, most of them on one position;
`inception_v3` is the paper's network, for images of 75 pixels and more, 299 in the paper.
"""

import dataclasses
import functools
from collections.abc import Callable

import keras
from keras import layers

import brn
from experiments.grid.normalizations import Bounds, Normalization
from experiments.grid.settings import NETWORKS
from experiments.training.layers import AveragesAsConstants

BRANCH = 4
"""Convolutions of the long branch of a module of `deep`."""


_HUGE = 1e9  # schedules move between finite numbers


def normalization(
    settings: Normalization, total_steps: int, alpha: float, epsilon: float
) -> Callable[[], keras.layers.Layer]:
    """Returns what makes the normalization layers of a network.

    Args:
        settings: how it normalizes; "gn" has 8 groups of channels.
        total_steps: length of the run, in training steps.
        alpha: how far the moving statistics move in a step; 1 - `momentum`.
        epsilon: added to the variance.
    """
    if settings.kind == "gn":
        return lambda: keras.layers.GroupNormalization(8, epsilon=epsilon, scale=False)
    shared = {"momentum": 1 - alpha, "epsilon": epsilon, "scale": False}
    if settings.group is None:
        shared["synchronized"] = True
    else:
        shared["microbatch_size"] = settings.group
    if settings.kind == "bn":
        return lambda: brn.BatchNormalization(**shared)
    layer = {"brn": brn.BatchRenormalization, "constants": AveragesAsConstants}[settings.kind]
    r_max, d_max = schedules(settings.bounds, total_steps)
    return lambda: layer(r_max=r_max, d_max=d_max, **shared)


def schedules(bounds: Bounds, total_steps: int) -> tuple:
    """Returns `r_max` and `d_max` as the layers take them."""
    if bounds.none_after is not None:
        step = round(bounds.none_after * total_steps)
        return tuple(brn.schedules.Ramp(least, _HUGE, step, step) for least in (1, 0))
    if bounds.r_max is None:
        return brn.paper_clipping(total_steps)
    return bounds.r_max, bounds.d_max


def of_arm(arm, protocol, source, normalize=None, **changes) -> keras.Model:
    """Builds the network of an arm in a protocol, with new weights.

    Args:
        arm, protocol: an `arms.Arm` and a `protocols.Protocol`.
        source: the protocol's data, a `splits.Source`.
        normalize: makes a normalization layer, instead of the arm's.
        **changes: in the arm's `Normalization`, and `alpha` instead of the protocol's.
    """
    alpha = changes.pop("alpha", protocol.alpha)
    settings = dataclasses.replace(arm.normalization, **changes)
    return build(
        protocol.network,
        source.image_shape,
        source.classes,
        normalize or normalization(settings, protocol.steps, alpha, protocol.epsilon),
        protocol.width,
        protocol.modules,
        protocol.stem_stride,
        protocol.depth,
        protocol.deep_width,
    )


def build(
    network: str,
    image_shape: tuple[int, int, int],
    classes: int,
    normalize: Callable[[], keras.layers.Layer],
    width: int = 16,
    modules: int = 3,
    stem_stride: int = 1,
    depth: int = 0,
    deep_width: int = 0,
) -> keras.Model:
    """Builds a network from images, float32 `(batch, height, width, channels)`, to logits.

    Args:
        network: one of `NETWORKS`.
        image_shape: `(height, width, channels)`.
        classes: number of logits.
        normalize: makes a normalization layer.
        width, stem_stride: of `inception_small` and `deep`.
        modules: of `inception_small`.
        depth, deep_width: of `deep`.

    Raises:
        ValueError: for another network.
    """
    if network == "inception_small":
        return inception_small(image_shape, classes, normalize, width, modules, stem_stride)
    if network in ("deep", "chain"):
        make = deep if network == "deep" else chain
        return make(image_shape, classes, normalize, width, depth, deep_width, stem_stride)
    if network == "inception_v3":
        return inception_v3(image_shape, classes, normalize)
    raise ValueError(f"Expected a network of {NETWORKS}. Received: network={network!r}")


def inception_small(image_shape, classes, normalize, width=16, modules=3, stem_stride=1):
    """Inception in small: a stem of one convolution, then Inception modules.

    Args:
        image_shape: `(height, width, channels)`.
        classes: number of logits.
        normalize: makes a normalization layer.
        width: channels of the stem, and of each branch of the first module; they double from
            module to module.
        modules: how many; the images are halved before each.
        stem_stride: stride of the stem, whose filters are as large, and at least 3x3.
    """
    convolution = functools.partial(_convolution, normalize)

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
    x = convolution(inputs, width, max(3, stem_stride), stem_stride)
    for number in range(modules):
        filters = width * 2**number
        x = module(halve(x, filters), filters)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="inception_small")


def deep(image_shape, classes, normalize, width, depth, deep_width, stem_stride=4):
    """An Inception with many normalization layers, most of them on one position.

    There a channel's statistics are over the examples alone, as they nearly are in the last part of
    Inception-v3's 94 normalization layers. Square patches beside each other, 3x3 convolutions with
    stride 2 down to 2x2 positions or fewer, a convolution over all positions that are left, then
    Inception modules of two branches: one 1x1 convolution, and `BRANCH` of them.

    Args:
        image_shape: `(height, width, channels)`.
        classes: number of logits.
        normalize: makes a normalization layer.
        width: channels of the patches; the 3x3 convolutions have 2, 3, ... times as many.
        depth: normalization layers on the longest path, one after each convolution.
        deep_width: channels on one position, half of them of each branch.
        stem_stride: side of a patch, a divisor of the images' height and width.

    Raises:
        ValueError: if no number of modules gives that depth, or patches do not fit.
    """
    inputs, x, made = _one_position(image_shape, normalize, width, deep_width, stem_stride)
    convolution = functools.partial(_convolution, normalize)
    modules, rest = divmod(depth - made, BRANCH)
    if modules < 0 or rest:
        raise ValueError(
            f"Expected a depth of {made}, {made + BRANCH}, {made + 2 * BRANCH}, ... for images of "
            f"shape {image_shape} in patches of side {stem_stride}. Received: depth={depth}"
        )
    for _ in range(modules):
        short = convolution(x, deep_width // 2, 1)
        for _ in range(BRANCH):
            x = convolution(x, deep_width // 2, 1)
        x = layers.Concatenate()([short, x])
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="deep")


def chain(image_shape, classes, normalize, width, depth, deep_width, stem_stride=4):
    """As `deep`, but one convolution after another: without branches there is no short path.

    Raises:
        ValueError: if the depth is below that of the layers before the one position.
    """
    inputs, x, made = _one_position(image_shape, normalize, width, deep_width, stem_stride)
    if depth < made:
        raise ValueError(
            f"Expected a depth of at least {made} for images of shape {image_shape} in patches of "
            f"side {stem_stride}. Received: depth={depth}"
        )
    for _ in range(depth - made):
        x = _convolution(normalize, x, deep_width, 1)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="chain")


def _one_position(image_shape, normalize, width, deep_width, stem_stride):
    """Returns input, `deep_width` channels on one position, and how many layers made them."""
    inputs = keras.Input(image_shape, name="images")
    x = _convolution(normalize, _patches(inputs, stem_stride), width, 1)
    made = 1
    while max(x.shape[1:3]) > 2:
        made += 1
        x = _convolution(normalize, x, width * made, 3, strides=2)
    return inputs, _convolution(normalize, x, deep_width, x.shape[1:3], padding="valid"), made + 1


def _patches(images, side):
    """Returns the images' square patches as positions: a convolution of them becomes a product."""
    height, width, channels = images.shape[1:]
    if height % side or width % side:
        raise ValueError(
            "Expected a stem's stride that divides the images' height and width. "
            f"Received: stem_stride={side}, images of shape {images.shape[1:]}"
        )
    x = layers.Reshape((height // side, side, width // side, side * channels))(images)
    x = layers.Permute((1, 3, 2, 4))(x)
    return layers.Reshape((height // side, width // side, side * side * channels))(x)


def _convolution(normalize, x, filters, size, strides=1, padding="same"):
    x = layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=False)(x)
    return layers.ReLU()(normalize()(x))


def inception_v3(image_shape, classes, normalize):
    """Inception-v3 as in `keras.applications`, its batch normalization layers replaced."""
    original = keras.applications.InceptionV3(
        weights=None, input_shape=image_shape, classes=classes, classifier_activation=None
    )
    return with_normalization(original, normalize)


def with_normalization(model, normalize):
    """Returns a copy of a model, with new weights, its batch normalization layers replaced."""

    def replace(layer):
        if isinstance(layer, keras.layers.BatchNormalization):
            return normalize()
        return layer.__class__.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=replace)
