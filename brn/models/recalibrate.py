"""Population statistics of a trained model, in place of the moving averages."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from brn import kernels
from brn.arguments import check_mask, feature_axis, positive_integer
from brn.backend import compiled
from brn.grouping import in_groups
from brn.models.batches import (
    arrays_in,
    arrays_taken,
    check_batches,
    check_call,
    check_inputs,
    each_array,
    inputs_of,
)
from brn.models.normalizations import Choice, assignments, choose, names, normalizations, statistics
from brn.types import Tensor

_AT_REST = 1e-5
"""Means that move by less, in standard deviations, and deviations by this share, are at rest."""


def recalibrate(
    model: keras.Model,
    data: Any,
    *,
    steps: int | None = None,
    batch_size: int = 32,
    layers: Choice | None = None,
    passes: int | None = None,
) -> None:
    """Sets the averages of normalization layers to the statistics of `data`, for given weights.

    Moving averages lag behind the weights and remember their starting values; after weights have
    been averaged, or on data of another kind, they are simply wrong. Afterwards each layer's mean
    and variance are those of all activations it receives when the model predicts `data`:

    ```
    mean = sum(x) / m      variance = sum((x - mean)^2) / m      over all m elements of a channel
    ```

    `BatchRenormalization` gets `moving_stddev = sqrt(variance + epsilon)`. What a layer receives
    depends on the layers before it, so this takes several passes over the data:

    1. In the first pass each layer normalizes each batch with the batch's own statistics. This is
       how PyTorch's `update_bn` estimates, and exact if there is one batch.
    2. In each further pass the model predicts with the statistics of the pass before. After pass
       `k` the first `k` layers, in the order in which the model calls them, are exact.

    It ends when nothing moves any more, at the latest after as many passes as there are layers:
    the result depends neither on the starting values nor on how the data are cut into batches.
    `passes=1` stops at the usual estimate.

    Moments are taken batch by batch around the batch's own mean, and merged in float64 (Chan,
    Golub & LeVeque 1983), so that large means do no harm. Masked elements do not count;
    `microbatch_size` does not matter. Weights, `step` and seeds stay as they are. A layer that is
    called several times gets the statistics of all its calls.

    Args:
        model: any built Keras model; layers of Keras and of this package, also inside custom
            layers.
        data: an array, or a list or dictionary of arrays if the model takes several; or batches:
            a `keras.utils.PyDataset`, a `tf.data.Dataset`, a PyTorch `DataLoader`, or any iterable.
            As in `fit`, a batch is the inputs or a tuple that begins with them. What can be
            iterated again is, and should give the same examples each time; the batches of a
            generator are held in memory. Inputs must be as in prediction: no augmentation.
        steps: how many batches to take; all by default.
        batch_size: into how many examples to cut arrays. Results do not depend on it.
        layers: which layers: a pattern of names, a list of patterns, or a function from a layer to
            whether. By default all that are not frozen (`trainable=False`).
        passes: the largest number of passes.

    Raises:
        ValueError: if there are fewer batches than `steps`, or none; if the data never end, or are
            not what the model takes; if statistics are not finite; if the model has no such layer,
            or calls none of them; if an argument is out of its range. In these cases, and whatever
            else is raised on the way, the model is as it was before.
    """
    steps = positive_integer("steps", steps, none="all batches")
    passes = positive_integer("passes", passes, none="as many as there are layers")
    batch_size = positive_integer("batch_size", batch_size)
    found = normalizations(model)
    chosen = [layer for layer in found if layer.trainable]
    if layers is not None:
        chosen = choose(found, layers)
    elif not chosen:
        raise ValueError(
            "All normalization layers are frozen, and keep their averages: choose with `layers` "
            f"those to recalibrate. Received: layers=None; the model has {names(found)}"
        )
    check_call(model)
    if not model.built:
        raise ValueError(
            "The model has no weights yet: call it once on a batch, or load its weights. "
            f"Received: model={model.name!r}, built=False"
        )
    if isinstance(data, list) and arrays_taken(model) == 1:
        data = iter(data)  # These are batches, then.
    if _is_arrays(data):
        check_inputs(model, data)
    else:
        check_batches(data)
    batches = _Batches(data, steps, batch_size)
    with _watching(chosen) as watch:
        measure = _compiled(model, watch)
        moments = _population(watch, batches, partial(measure, {}), by_batch=True)
        for _ in range(min(passes or len(moments), len(moments)) - 1):
            previous = moments
            state = {id(variable): value for variable, value in _assignments(moments)}
            moments = _population(watch, batches, partial(measure, state), by_batch=False)
            if _at_rest(previous, moments):
                break
    for variable, value in _assignments(moments):
        variable.assign(value)


class _Moments(NamedTuple):
    """Of some elements of each channel, in float64; nothing is known of a channel without any."""

    count: np.ndarray  # type: ignore[assignment]  # not the method of tuples
    mean: np.ndarray
    variance: np.ndarray

    def merged(self, other: "_Moments") -> "_Moments":
        """Returns the moments of both sets of elements together."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        distance = np.where(other.count > 0, other.mean - self.mean, 0.0)
        mean = self.mean + share * distance
        variance = (1 - share) * self.variance + share * other.variance
        return _Moments(count, mean, variance + share * (1 - share) * distance**2)

    def or_else(self, mean: np.ndarray, variance: np.ndarray) -> "_Moments":
        """Returns these moments, with others for the channels of which nothing is known."""
        known = self.count > 0
        return _Moments(
            self.count, np.where(known, self.mean, mean), np.where(known, self.variance, variance)
        )


_OfLayers: TypeAlias = dict[keras.layers.Layer, _Moments]


def _assignments(moments: _OfLayers) -> Iterator[tuple[keras.Variable, Any]]:
    for layer, (_, mean, variance) in moments.items():
        yield from assignments(layer, mean, variance)


def _at_rest(previous: _OfLayers, moments: _OfLayers) -> bool:
    for layer, (_, mean, variance) in moments.items():
        before, stddev = previous[layer], np.sqrt(variance + layer.epsilon)
        moved = np.abs(mean - before.mean)
        spread = np.abs(stddev - np.sqrt(before.variance + layer.epsilon))
        if (np.maximum(moved, spread) > _AT_REST * stddev).any():
            return False
    return True


def _population(
    watch: "_Watch", batches: "_Batches", measure: Callable[[Any], Any], by_batch: bool
) -> _OfLayers:
    """Returns the `_Moments` of each layer that is called, over all batches."""
    watch.by_batch = by_batch
    moments: _OfLayers = {}
    for inputs in batches:
        for layer, calls in zip(watch.layers, measure(inputs), strict=True):
            for center, offset, variance, count in (_float64(call) for call in calls):
                more = _Moments(count, center + offset, variance)
                moments[layer] = moments[layer].merged(more) if layer in moments else more
    if not moments:
        raise ValueError(
            "The model calls none of the layers when it predicts. Received: "
            f"layers {names(watch.layers)}"
        )
    for layer, merged in moments.items():
        moments[layer] = merged.or_else(*statistics(layer))
        if not all(np.isfinite(value).all() for value in merged):
            raise ValueError(
                "The activations of a layer are not finite, so its averages stay as they were: "
                f"look for NaN in data and weights. Received: layer={layer.name!r}"
            )
    return moments


def _float64(tensor: Tensor) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)


class _Watch:
    """What arrives at some layers in a call of their model.

    Attributes:
        layers: the layers.
        by_batch: whether each of them predicts with the statistics of what arrives.
        seen: the moments that arrived at each layer, one tensor a call of the layer:
            `(4, channels)`, a mean in two pieces, a variance and the number of elements.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer]) -> None:
        self.layers = layers
        self.by_batch = False
        self.seen: list[list[Tensor]] = [[] for _ in layers]

    def start(self) -> None:
        """Forgets what was seen."""
        self.seen = [[] for _ in self.layers]

    def see(self, index: int, inputs: Tensor, mask: Tensor | None) -> None:
        """Records the moments of what arrives at a layer."""
        layer = self.layers[index]
        moments = _moments(inputs, layer.axis, mask)
        self.seen[index].append(ops.stack(moments))
        if self.by_batch:
            center, offset, variance, count = moments
            # Inside a `StatelessScope`: the variables themselves stay as they are.
            for variable, value in assignments(layer, center + offset, variance):
                variable.assign(
                    ops.where(count > 0, ops.cast(value, variable.dtype), variable.value)
                )


def _moments(inputs: Tensor, axis: int, mask: Tensor | None) -> list[Tensor]:
    """Returns center, offset, variance and count, each `(channels,)`, float32 at least."""
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    x = ops.cast(inputs, dtype if dtype == "float64" else "float32")

    def moments(x: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
        (center, offset), variance, count = kernels.select(x, valid).moments(x)
        zeros = ops.zeros_like(variance)
        if count is None:
            count = x.shape[1] * x.shape[3]
        values = (0.0 if center is None else center, offset, variance, count)
        return x, *(ops.reshape(zeros + value, (-1,)) for value in values)

    axis = feature_axis(axis, len(x.shape))
    _, *statistics = in_groups(moments, x, axis, mask=check_mask(mask, x))
    return statistics


@contextlib.contextmanager
def _watching(layers: Sequence[Any]) -> Iterator[_Watch]:
    """Has a `_Watch` see what arrives at `layers`, for as long as the context lasts."""
    watch = _Watch(layers)

    def watched(index: int, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def see_and_call(
            inputs: Tensor, *args: Any, mask: Tensor | None = None, **kwargs: Any
        ) -> Any:
            watch.see(index, inputs, mask)
            if mask is not None:
                kwargs["mask"] = mask
            return call(inputs, *args, **kwargs)

        return see_and_call

    try:
        for index, layer in enumerate(layers):
            layer.call = watched(index, layer.call)
        yield watch
    finally:
        for layer in layers:
            vars(layer).pop("call", None)


def _compiled(model: keras.Model, watch: _Watch) -> Callable[[dict[int, Any], Any], Any]:
    """Returns a function of values by variables' `id`s and of inputs, to what `watch` saw."""
    variables = model.variables

    def forward() -> Callable[..., Any]:
        # A function of its own for each way: what is compiled is remembered by function.
        def run(state: list[Tensor], inputs: Any) -> list[list[Tensor]]:
            watch.start()
            with keras.StatelessScope(zip(variables, state, strict=True)):
                model(inputs, training=False)
            return watch.seen

        return compiled(run)

    functions = {by_batch: forward() for by_batch in (True, False)}

    def measure(changed: dict[int, Any], inputs: Any) -> Any:
        state = [
            ops.convert_to_tensor(changed.get(id(variable), variable.value), dtype=variable.dtype)
            for variable in variables
        ]
        check_inputs(model, inputs)
        return functions[watch.by_batch](state, each_array(ops.convert_to_tensor, inputs))

    return measure


class _Batches:
    """The inputs of each batch of some data, as often as they are asked for."""

    def __init__(self, data: Any, steps: int | None, batch_size: int) -> None:
        self._data = data
        self._steps = steps
        self._batch_size = batch_size
        self._number = steps
        self._held = list(itertools.islice(data, steps)) if isinstance(data, Iterator) else None
        if steps is None and _is_infinite(data):
            raise ValueError(
                "The data do not end: say how many batches to take. Received: steps=None, "
                f"data={data!r}"
            )

    def __iter__(self) -> Iterator[Any]:
        number = 0
        for inputs in itertools.islice(self._inputs(), self._steps):
            yield inputs
            number += 1
        if number == 0:
            raise ValueError(
                "The data have no batch, and the model was not changed. Received: 0 batches, "
                f"steps={self._steps}"
            )
        if number < (self._number or 1):
            raise ValueError(
                f"The data ran short of {self._number} batches, and the model was not changed: "
                "give more data, the same in each pass, or take fewer `steps`. "
                f"Received: {number} {'batch' if number == 1 else 'batches'}, steps={self._steps}"
            )
        self._number = number

    def _inputs(self) -> Iterator[Any]:
        data, size = self._data, self._batch_size
        if _is_arrays(data):
            for start in range(0, len(arrays_in(data)[0]), size):
                batch = slice(start, start + size)
                yield each_array(itemgetter(batch), data)
            return
        yield from inputs_of(data if self._held is None else self._held)


def _is_arrays(data: Any) -> bool:
    return isinstance(data, list | tuple | dict) or hasattr(data, "__array__")


def _is_infinite(data: Any) -> bool:
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    cardinality = getattr(data, "cardinality", None)  # of a `tf.data.Dataset`
    return callable(cardinality) and int(cardinality()) == -1
