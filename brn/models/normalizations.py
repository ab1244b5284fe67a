"""Any batch normalization layer of a model, Keras's or this package's, seen alike."""

import fnmatch
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from brn.arguments import check_model
from brn.layers import BatchNormalization, BatchRenormalization

KINDS: tuple[type[keras.layers.Layer], ...] = (
    BatchRenormalization,
    BatchNormalization,
    keras.layers.BatchNormalization,
)

Choice = str | Sequence[str] | Callable[[keras.layers.Layer], bool]
"""Which layers: a pattern of names such as `"block4_*"`, several, or a predicate."""


def inside(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns `layer` and every layer in it, however deep, each once, outer before inner."""
    return layer._flatten_layers()  # Keras has no public name for it.


def normalizations(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the batch normalization layers in `model`, those inside custom layers too.

    Raises:
        ValueError: if there are none, or `model` is not a model.
    """
    check_model(model)
    found = [layer for layer in inside(model) if isinstance(layer, KINDS)]
    if not found:
        raise ValueError(
            "The model has no batch normalization layer, of Keras or of brn. "
            f"Received: model={model.name!r}, a {type(model).__name__}"
        )
    return found


def choose(found: Iterable[keras.layers.Layer], layers: Choice) -> list[keras.layers.Layer]:
    """Returns the layers of `found` that `layers` chooses.

    Raises:
        ValueError: if it chooses none, a pattern matches none, or it is no choice at all.
    """
    found = list(found)
    if callable(layers) and not isinstance(layers, keras.Layer):
        chosen, unmatched = [layer for layer in found if layers(layer)], []
    else:
        patterns = list(layers) if isinstance(layers, list | tuple | set) else [layers]
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise ValueError(
                "`layers` must be a pattern of names, a list of patterns, or a function from a "
                "layer to whether. A layer itself is chosen by its name, layers=[layer.name]. "
                f"Received: layers={layers!r}"
            )
        matches = {
            pattern: [layer for layer in found if fnmatch.fnmatchcase(layer.name, pattern)]
            for pattern in patterns
        }
        unmatched = [pattern for pattern, matching in matches.items() if not matching]
        named = {id(layer) for matching in matches.values() for layer in matching}
        chosen = [layer for layer in found if id(layer) in named]
    if unmatched or not chosen:
        raise ValueError(
            "`layers` must choose normalization layers of the model, by patterns of their names "
            f"or a predicate. Received: layers={unmatched or layers!r}; the model has "
            f"{names(found)}"
        )
    return chosen


def names(layers: Iterable[keras.layers.Layer]) -> str:
    """Returns the paths of `layers`, for a message."""
    return ", ".join(repr(layer.path or layer.name) for layer in layers)


def statistics(layer: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance that a built layer predicts with, `(channels,)`, in float64.

    The layer divides by `sqrt(variance + epsilon)`. The variance of a `BatchRenormalization` is
    `moving_stddev^2 - epsilon`; a `moving_stddev` below `sqrt(epsilon)` is taken for it, as the
    layer does.
    """
    if isinstance(layer, BatchRenormalization):
        stddev = np.maximum(_float64(layer.moving_stddev), layer.epsilon**0.5)
        variance = stddev**2 - layer.epsilon
    else:
        variance = _float64(layer.moving_variance)
    return _float64(layer.moving_mean), variance


def assignments(
    layer: keras.layers.Layer, mean: np.ndarray, variance: np.ndarray
) -> list[tuple[keras.Variable, np.ndarray]]:
    """Returns what to assign so that a built layer predicts with `mean` and `variance`.

    The second pair of averages that Keras keeps for `renorm=True` gets the same values.
    """
    stddev = (variance + layer.epsilon) ** 0.5
    if isinstance(layer, BatchRenormalization):
        return [(layer.moving_mean, mean), (layer.moving_stddev, stddev)]
    values = [(layer.moving_mean, mean), (layer.moving_variance, variance)]
    if getattr(layer, "renorm", False):
        values += [(layer.moving_stddev, stddev)]
        values += [(layer.renorm_mean, mean), (layer.renorm_stddev, stddev)]
    return values


def values(variable: keras.Variable) -> np.ndarray:
    """Returns a copy of a variable's values: on JAX, variables must not share their memory."""
    return np.array(keras.ops.convert_to_numpy(variable))


def _float64(variable: keras.Variable) -> np.ndarray:
    return values(variable).astype(np.float64)
