"""Accuracy of given weights, in inference mode or with the statistics of each minibatch.

Neither touches the model's state: weights go in as arguments, updates are dropped.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from experiments.augmentation import scale
from experiments.sampling import Structured
from experiments.splits import Split

CHUNK = 500
"""Images a call of the model, at most."""

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

    def call(weights, images):
        return model.stateless_call(*weights, images, training=training)[0]

    backend = keras.config.backend()
    if backend == "jax":
        import jax

        call = jax.jit(call)
    elif backend == "tensorflow":
        import tensorflow as tf

        call = tf.function(call, reduce_retracing=True)
    else:
        import torch

        call = torch.no_grad()(call)

    def logits(weights, images):
        tensors = tuple([keras.ops.convert_to_tensor(value) for value in part] for part in weights)
        return keras.ops.convert_to_numpy(call(tensors, keras.ops.convert_to_tensor(images)))

    return logits


def accuracy_percent(logits, weights: Weights, split: Split, indices: np.ndarray) -> float:
    """Returns how many of the images of `indices` get their label, in percent.

    Args:
        logits: a function of weights and images, as `logits_function` makes it.
        weights: the weights to evaluate.
        split: where images and labels come from.
        indices: which images, in this order, `CHUNK` at a time.
    """
    correct = 0
    for start in range(0, len(indices), CHUNK):
        chunk = indices[start : start + CHUNK]
        predicted = logits(weights, scale(split.images(chunk))).argmax(axis=-1)
        correct += int((predicted == split.labels[chunk]).sum())
    return 100.0 * correct / len(indices)


def spread_indices(examples: int, number: int) -> np.ndarray:
    """Returns `number` indices spread evenly over the examples; all of them if there are fewer."""
    if number >= examples:
        return np.arange(examples)
    return np.arange(number) * examples // number


def structured_indices(
    split: Split, labels_per_minibatch: int, images_per_label: int, number: int
) -> np.ndarray:
    """Returns the images of structured minibatches, about `number` of them, always the same.

    The minibatches follow each other; none is cut by a chunk of `CHUNK` images as long as its size
    divides `CHUNK`.
    """
    size = labels_per_minibatch * images_per_label
    minibatches = Structured(
        split.labels, max(number // size, 1), labels_per_minibatch, images_per_label, seed=0
    )
    return minibatches(0)
