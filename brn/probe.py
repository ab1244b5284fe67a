"""What the layers of a model would do to a minibatch: one forward pass that leaves no trace.

`MinibatchNormalization.call` shows its statistics to `observe`, which keeps them only while a
`Probe` looks.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from brn.arguments import check_model
from brn.backend import compiled
from brn.models.batches import check_call, check_inputs, each_array
from brn.types import Tensor

Observations = list[tuple[keras.Layer, dict[str, Any]]]

_observing: tuple[int, Observations] | None = None  # the thread that looks, and what it saw
_one_at_a_time = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Corrections:
    """What one layer does to one minibatch in training; arrays have the shape `(groups, channels)`.

    A group is what is normalized together: a microbatch, or the whole minibatch. A layer that a
    forward pass calls several times has the groups of all its calls, one after another.

    Attributes:
        layer: the layer.
        r: sigma_B / sigma, clipped; 1 for batch normalization.
        d: (mu_B - mu) / sigma, clipped; 0 for batch normalization.
        ratio: sigma_B / sigma, as it is.
        shift: (mu_B - mu) / sigma, as it is.
        valid: where there are statistics: not where all elements of a group are masked.
        r_max: bound of `r` at the layer's step; 1 for batch normalization.
        d_max: bound of `d` at the layer's step; 0 for batch normalization.
    """

    layer: keras.Layer
    r: np.ndarray
    d: np.ndarray
    ratio: np.ndarray
    shift: np.ndarray
    valid: np.ndarray
    r_max: float
    d_max: float

    @property
    def r_clipped(self) -> float:
        """The fraction of `ratio` outside [1 / r_max, r_max]; NaN if nothing is valid."""
        return self._fraction((self.ratio < 1 / self.r_max) | (self.ratio > self.r_max))

    @property
    def d_clipped(self) -> float:
        """The fraction of `shift` outside [-d_max, d_max]; NaN if nothing is valid."""
        return self._fraction(np.abs(self.shift) > self.d_max)

    @property
    def finite(self) -> bool:
        """Whether all statistics, of the minibatch and moving ones, are finite."""
        return bool(np.isfinite(self.ratio).all() and np.isfinite(self.shift).all())

    def _fraction(self, where: np.ndarray) -> float:
        return float(np.mean(where[self.valid])) if self.valid.any() else float("nan")


class Probe:
    """A compiled forward pass in training mode that keeps no state and gives the corrections.

    Weights, averages, step counts and seeds of the model stay as they are. Make one probe and call
    it often: each shape of minibatch is compiled once.

    Args:
        model: a built model or layer, with layers of this package anywhere inside it.

    Raises:
        ValueError: if it is neither a model nor a layer.
    """

    def __init__(self, model: keras.Layer) -> None:
        check_model(model)
        self._model = model
        self._layers: list[keras.Layer] = []
        self._forward = compiled(self._forward_pass)

    def __call__(self, x: Any) -> dict[str, Corrections]:
        """Returns the corrections of each layer by its path, in the order of the calls.

        Layers that are frozen, or called in inference mode, correct nothing and are not there.

        Args:
            x: one minibatch of inputs, as the model takes it: an array, or a structure of arrays.

        Raises:
            ValueError: if the model is not built, or `x` is not what it takes.
        """
        model = self._model
        check_call(model)
        if not model.built:
            raise ValueError(
                "The model has no weights yet: build it, or call it on a minibatch, before it is "
                f"probed. Received: model={model.name!r}, which is not built"
            )
        check_inputs(model, x)
        weights = (
            [variable.value for variable in model.trainable_variables],
            [variable.value for variable in model.non_trainable_variables],
        )
        observations = self._forward(*weights, each_array(_as_fit_does, x))
        calls: dict[str, list[dict[str, np.ndarray]]] = {}
        for layer, observation in zip(self._layers, observations, strict=True):
            arrays = {name: ops.convert_to_numpy(value) for name, value in observation.items()}
            calls.setdefault(layer.path, []).append(arrays)
        layers = {layer.path: layer for layer in self._layers}
        return {path: _corrections(layers[path], of_layer) for path, of_layer in calls.items()}

    def _forward_pass(
        self, trainable: list[Tensor], non_trainable: list[Tensor], x: Any
    ) -> list[dict[str, Tensor]]:
        with _looking() as observations:
            # With `return_losses`, losses of the pass stay inside it, too.
            self._model.stateless_call(
                trainable, non_trainable, x, training=True, return_losses=True
            )
        self._layers = [layer for layer, _ in observations]
        return [values for _, values in observations]


def corrections(model: keras.Layer, x: Any) -> dict[str, Corrections]:
    """Returns what each layer of this package would do to a minibatch in the next training step.

    ```
    found = brn.corrections(model, x[:32])
    for path, layer in found.items():
        print(path, layer.r.mean(), layer.r_max, layer.r_clipped, layer.d_clipped)
    ```

    It is one forward pass in training mode, microbatches and masks included, of which no state is
    kept. To probe again and again make a `brn.Probe`, which compiles the pass once.

    Args:
        model: a built model or layer, with layers of this package anywhere inside it.
        x: one minibatch of inputs, of the size that the model trains with.

    Returns:
        `Corrections` by the layer's path, in the order of the calls. Layers that are frozen, or
        called in inference mode, are not there.

    Raises:
        ValueError: if the model is not built, or `x` is not what it takes.
    """
    return Probe(model)(x)


def observe(
    layer: keras.Layer,
    sigma: Tensor,
    mean_change: Tensor,
    sigma_B: Tensor,
    variance_B: Tensor,
    count: Tensor | None,
) -> None:
    """Keeps what `layer` is about to do, if a probe looks; costs nothing otherwise.

    Args:
        layer: the layer.
        sigma: its moving deviation before the step, `(1, 1, channels, 1)`.
        mean_change: `mu_B - mu` of each group and channel, `(groups, 1, channels, 1)`.
        sigma_B, variance_B, count: as `_update` takes them.
    """
    # A plain global: `torch.compile` does not look into thread-local or context variables.
    if _observing is None or _observing[0] != threading.get_ident():
        return
    bounded = hasattr(layer, "clipping_bounds")
    r_max, d_max = layer.clipping_bounds(sigma_B.dtype) if bounded else (1.0, 0.0)
    ratio, shift = sigma_B / sigma, mean_change / sigma
    values = {
        "r": ops.clip(ratio, 1 / r_max, r_max),
        "d": ops.clip(shift, -d_max, d_max),
        "ratio": ratio,
        "shift": shift,
        "valid": ops.ones_like(ratio) * (1.0 if count is None else count),
        "r_max": r_max,
        "d_max": d_max,
    }
    _observing[1].append((layer, values))


@contextlib.contextmanager
def _looking() -> Iterator[Observations]:
    global _observing
    observations: Observations = []
    with _one_at_a_time:
        _observing = (threading.get_ident(), observations)
        try:
            yield observations
        finally:
            _observing = None


def _as_fit_does(x: Any) -> Tensor:
    """Floating-point arrays become `keras.config.floatx()`, as `fit` makes them."""
    if ops.is_tensor(x):
        return x
    x = np.asarray(x)
    return ops.convert_to_tensor(x, dtype=keras.config.floatx() if x.dtype.kind == "f" else None)


def _corrections(layer: keras.Layer, calls: list[dict[str, np.ndarray]]) -> Corrections:
    """Puts the groups of all calls of a layer below each other; the bounds are the first call's."""
    groups = {
        name: np.concatenate([call[name][:, 0, :, 0] for call in calls])
        for name in ("r", "d", "ratio", "shift", "valid")
    }
    groups["valid"] = groups["valid"] > 0
    r_max, d_max = (float(calls[0][name]) for name in ("r_max", "d_max"))
    return Corrections(layer, r_max=r_max, d_max=d_max, **groups)
