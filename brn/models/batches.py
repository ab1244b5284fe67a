"""Minibatches of inputs, as `fit` takes them, and what of them a model takes."""

import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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


def check_call(model: keras.Layer) -> None:
    """Raises a `ValueError` unless `model` can be run on inputs by itself."""
    if type(model).call in (keras.Model.call, keras.Layer.call):
        parts = ", ".join(repr(part.name) for part in getattr(model, "layers", ())) or "nothing"
        raise ValueError(
            "The model has no `call`, so that only its own code knows how to run it: pass the "
            "model inside it that is meant, and what that one takes. "
            f"Received: model={model.name!r}, a {type(model).__name__}, made of {parts}"
        )


def each_array(function: Callable[[Any], Any], inputs: Any) -> Any:
    """Returns inputs with `function` applied to every array; an optional one may be `None`."""
    return keras.tree.map_structure(lambda x: None if x is None else function(x), inputs)


def arrays_in(inputs: Any) -> list[Any]:
    """Returns the arrays in a structure of them, without those that are `None`."""
    return [leaf for leaf in keras.tree.flatten(inputs) if leaf is not None]


def check_inputs(model: keras.Layer, inputs: Any) -> None:
    """Raises a `ValueError` unless `inputs` are arrays of examples, as many as `model` takes.

    Of a dictionary Keras itself takes what it needs. An optional input may be `None`.
    """
    leaves = keras.tree.flatten(inputs)
    arrays = arrays_in(inputs)
    if not arrays or not all(len(getattr(array, "shape", ())) > 0 for array in arrays):
        raise ValueError(
            "Inputs must be arrays with the examples along the first axis, as the model takes "
            f"them: make them with np.asarray. Received: inputs={reprlib.repr(inputs)}"
        )
    taken = arrays_taken(model)
    if taken is not None and len(leaves) != taken and not isinstance(inputs, dict):
        raise ValueError(
            f"The model takes {taken} {'array' if taken == 1 else 'arrays'} of inputs: pass x "
            f"alone, without labels. Received: {len(leaves)} arrays, of shapes "
            f"{[leaf if leaf is None else tuple(leaf.shape) for leaf in leaves]}, "
            f"for model={model.name!r}"
        )
