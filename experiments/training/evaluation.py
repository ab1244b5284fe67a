"""Accuracy of given weights, in inference mode or with the statistics of each minibatch.

Neither touches the model's state: weights go in as arguments, updates are dropped.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np

import brn
from brn.backend import compiled
from experiments.data.augmentation import scale
from experiments.data.sampling import Structured
from experiments.data.splits import Split
from experiments.training.alone import ALONE, Alone

CHUNK = 500
"""Images a call of the model, unless it is said otherwise."""

Weights = tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
"""Values of a model's trainable and of its non-trainable variables."""


def logits_function(
    model: keras.Model, training: bool
) -> Callable[[Weights, np.ndarray], np.ndarray]:
    """Returns a compiled function from weights and images to logits, free of side effects.

    Args:
        model: any Keras model with one input and one output.
        training: whether layers behave as in training: batch normalization then takes the
            statistics of the images it gets.
    """
    call = _compiled(lambda *arguments: model.stateless_call(*arguments, training=training)[0])
    return lambda weights, images: keras.ops.convert_to_numpy(call(weights, images))


def state_function(model: keras.Model) -> Callable[[Weights, np.ndarray], list[np.ndarray]]:
    """Returns a compiled function from weights and images to the non-trainable weights after them.

    It is one call in training mode, free of side effects. Where `momentum` is 0 it gives the
    statistics of these images.
    """
    call = _compiled(lambda *arguments: model.stateless_call(*arguments, training=True)[1])
    return lambda *arguments: [keras.ops.convert_to_numpy(value) for value in call(*arguments)]


def _compiled(call):
    """Returns `call(trainable, non_trainable, images)` as a function of weights and images."""
    call = compiled(call)

    def run(weights, images):
        tensors = ([keras.ops.convert_to_tensor(value) for value in part] for part in weights)
        return call(*tensors, keras.ops.convert_to_tensor(images))

    return run


def accuracy_percent(
    logits,
    weights: Weights,
    split: Split,
    indices: np.ndarray,
    chunk: int = CHUNK,
    group: Alone = ALONE,
) -> float:
    """Returns how many of the images of `indices` get their label, in percent.

    Args:
        logits: a function of weights and images, as `logits_function` makes it.
        weights: the weights to evaluate.
        split: where images and labels come from.
        indices: which images, in this order.
        chunk: images at a time.
        group: the processes that share the work.
    """
    correct = 0
    for start in range(group.rank * chunk, len(indices), group.size * chunk):
        group.moved()
        some = indices[start : start + chunk]
        predicted = logits(weights, scale(split.images(some))).argmax(axis=-1)
        correct += int((predicted == split.labels[some]).sum())
    return 100.0 * sum(group.everyone(correct)) / len(indices)


def clipped_percent(probe: brn.Probe, images: np.ndarray) -> dict[str, float]:
    """Returns how many r and d a minibatch would have clipped, in percent.

    Args:
        probe: of the network.
        images: one minibatch.

    Returns:
        `r_clipped_percent` and `d_clipped_percent` over all layers, groups and channels, and for
        each layer, `r_clipped_percent_layer_01` and so on, in the order of the calls.
    """
    layers = list(probe(images).values())
    clipped = {}
    for name in ("r_clipped", "d_clipped"):
        fractions = [100 * getattr(layer, name) for layer in layers]
        clipped[f"{name}_percent"] = float(
            np.average(fractions, weights=[layer.r.size for layer in layers])
        )
        for number, fraction in enumerate(fractions, start=1):
            clipped[f"{name}_percent_layer_{number:02}"] = fraction
    return clipped


def sample_indices(examples: int, number: int) -> np.ndarray:
    """Returns `number` indices drawn at random, always the same, in order; all if there are fewer.

    At random, as labels may come in turns: of every twentieth image some sets have few classes.
    """
    drawn = np.random.default_rng(0).permutation(examples)[:number]
    return np.sort(drawn)


def structured_indices(
    split: Split, labels_per_minibatch: int, images_per_label: int, number: int
) -> np.ndarray:
    """Returns the images of structured minibatches, about `number` of them, always the same."""
    size = labels_per_minibatch * images_per_label
    minibatches = Structured(
        split.labels, max(number // size, 1), labels_per_minibatch, images_per_label, seed=0
    )
    return minibatches(0)
