"""Minibatches of inputs, as `fit` takes them, and what of them a model takes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras


def inputs_of(data: Iterable[Any]) -> Iterator[Any]:
    """Returns the inputs of each batch of `data`, once through, without labels and weights."""
    return (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in data)


def check_batches(data: Any) -> None:
    """Raises a `ValueError` unless `data` can be gone through."""
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise ValueError(
            "`data` must be arrays of inputs, or batches of them: a keras.utils.PyDataset, a "
            f"tf.data.Dataset, a DataLoader or another iterable. Received: data={data!r}"
        )


def arrays_taken(model: keras.Layer) -> int | None:
    """Returns how many arrays of inputs a model takes, `None` if only its code knows."""
    inputs = getattr(model, "inputs", None)
    return len(inputs) if isinstance(inputs, Sequence) else None


def check_inputs(model: keras.Layer, inputs: Any) -> None:
    """Raises a `ValueError` unless `inputs` are arrays of examples, as many as `model` takes.

    Of a dictionary Keras itself takes what it needs.
    """
    leaves = keras.tree.flatten(inputs)
    if not leaves or not all(len(getattr(leaf, "shape", ())) > 0 for leaf in leaves):
        raise ValueError(
            "Inputs must be arrays with the examples along the first axis, as the model takes "
            f"them: make them with np.asarray. Received: inputs={inputs!r}"
        )
    taken = arrays_taken(model)
    if taken is not None and len(leaves) != taken and not isinstance(inputs, dict):
        raise ValueError(
            f"The model takes {taken} {'array' if taken == 1 else 'arrays'} of inputs: pass x "
            f"alone, without labels. Received: {len(leaves)} arrays, of shapes "
            f"{[tuple(leaf.shape) for leaf in leaves]}, for model={model.name!r}"
        )
