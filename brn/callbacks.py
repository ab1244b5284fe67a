"""A callback that watches r, d and their bounds while `fit` trains."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from brn.arguments import check_model, positive_integer
from brn.layers import BatchRenormalization
from brn.models.batches import arrays_in, check_batches, check_call, inputs_of
from brn.probe import Corrections, Probe

QUANTITIES = (
    "r_mean",
    "r_smallest",
    "r_largest",
    "r_max",
    "r_clipped",
    "d_mean",
    "d_smallest",
    "d_largest",
    "d_max",
    "d_clipped",
    "mean_distance",
    "stddev_distance",
)
"""What `RenormMonitor` notes of each layer; see its docstring."""

SUMMARY = ("r_clipped", "r_layer", "r_max", "d_clipped", "d_layer", "d_max")
"""What `RenormMonitor` logs over all layers; see its docstring."""

_FAR = 10**9
_NAMED = 5


class RenormMonitor(keras.callbacks.Callback):
    """Watches what the layers of this package do to a minibatch, while `fit` trains.

    ```
    monitor = brn.callbacks.RenormMonitor(x[:32])
    model.fit(x, y, batch_size=32, callbacks=[monitor, keras.callbacks.CSVLogger("log.csv")])
    pandas.DataFrame(monitor.history)
    ```

    Every `every` steps, and when training ends, it runs a minibatch through the model in training
    mode, keeping no state (see `brn.Probe`): a forward pass, nothing in the training step itself.
    Training goes on as it would without. For each layer, over its groups and channels:

    - `r_mean`, `r_smallest`, `r_largest` of r, and `d_mean`, `d_smallest`, `d_largest` of d;
    - `r_max`, `d_max`: the bounds at that step (1 and 0 for batch normalization);
    - `r_clipped`, `d_clipped`: the fractions that the bounds clip;
    - `mean_distance`, the mean of |mu_B - mu| / sigma, and `stddev_distance`, the mean of
      |log(sigma_B / sigma)|: how far the minibatch's statistics are from the moving ones.

    They are in `history`. The logs of every epoch have a summary of the latest ones, over all
    layers:

    - `renorm/r_clipped` and `renorm/d_clipped`: those of the layer in which most is clipped;
    - `renorm/r_layer` and `renorm/d_layer`: which that is, a place in `layers`;
    - `renorm/r_max` and `renorm/d_max`: its bounds.

    With `logs`, they have quantities of each layer instead, as `renorm/<layer>/<quantity>`.
    Callbacks that log, such as `CSVLogger` and `TensorBoard`, see them if they come after this one
    in `callbacks`; `History`, which `fit` returns, always does.

    It warns (`UserWarning`)

    - once training ends, of layers whose bounds still hold at r_max = 1 and d_max = 0: they did
      plain batch normalization, as their schedule is for a longer run;
    - once training ends, of layers in which most r of the last minibatch were clipped: they infer
      with other statistics than they train with;
    - of statistics that are not finite, at the first minibatch where they are not.

    Args:
        data: the minibatches to run. One minibatch of inputs, as the model takes them and of the
            size it trains with, is run every time. Of a `keras.utils.PyDataset`,
            `tf.data.Dataset` or `DataLoader`, as `fit` takes them, the next minibatch is.
        every: steps between two minibatches. With `steps_per_execution`, executions.
        logs: what goes into the logs of an epoch: `"summary"`, `"all"` quantities of each layer, or
            a list of quantities. `history` has all.
        model: the model or layer to watch, and to run `data` through: by default the one that is
            trained. One without `call`, such as a GAN, needs a model inside it that has one.

    Attributes:
        history: a dict for each layer and minibatch: `step`, `layer` and the quantities. `step` is
            the layer's own, before the training step that the numbers are for; of
            `brn.BatchNormalization`, which has none, the number of steps that were watched.
        layers: the paths of the layers, in the order of their calls.

    Raises:
        ValueError: if `every` is not a positive integer, `logs` or a quantity is unknown, `model`
            is no model, or `data` cannot be gone through again; in `fit`, if `data` have no
            minibatch, or the model does not take what they hold or has no `call`.
    """

    def __init__(
        self,
        data: Any,
        every: int = 100,
        logs: str | Sequence[str] = "summary",
        model: keras.Layer | None = None,
    ) -> None:
        super().__init__()
        self.every: int = positive_integer("every", every)
        self.logs = _quantities(logs)
        if model is not None:
            check_model(model)
        self.history: list[dict[str, Any]] = []
        self.layers: list[str] = []
        self._minibatches = _minibatches(data)
        self._part = model
        self._steps = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts counting steps."""
        self._executions = 0
        self._probe: Probe | None = None
        self._latest: dict[str, Corrections] = {}
        self._warned = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Probes before the training step, whose r and d come from the averages before it."""
        # On TensorFlow, a model may be without weights until its first step.
        due = self._probe is None or self._executions % self.every == 0
        if due and self._watched().built:
            self._run_minibatch()
        self._executions += 1
        self._first = batch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the steps of the execution."""
        # The last execution of an epoch may have fewer steps than it is counted with.
        self._steps += min(batch + 1, self.params.get("steps") or batch + 1) - self._first

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the latest minibatch's numbers to the logs."""
        if logs is None or not self._latest:
            return
        numbers = {path: _numbers(corrections) for path, corrections in self._latest.items()}
        if self.logs == SUMMARY:
            found = _summary(list(numbers.values()))
        else:
            found = {
                f"{path}/{name}": numbers[path][name] for path in numbers for name in self.logs
            }
        logs.update({f"renorm/{name}": number for name, number in found.items()})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Probes once more, and warns of what has gone wrong."""
        if not self._watched().built:
            return
        self._run_minibatch()
        if not self._latest:
            warnings.warn(
                "RenormMonitor found no layer of this package that trains: there is none in the "
                "model, or all are frozen.",
                stacklevel=2,
            )
        _warn(
            self._latest,
            _held,
            "trained with r_max = 1 and d_max = 0 to the end, which is plain batch normalization. "
            "Fit the schedule to the run: r_max, d_max = brn.paper_clipping(total_steps)",
        )
        _warn(
            self._latest,
            lambda layer: layer.r_clipped > 0.5 and (layer.r_max, layer.d_max) != (1.0, 0.0),
            "had most r clipped when training ended, so they infer with other statistics than "
            "they train with. Larger minibatches, a larger r_max or averages that follow faster "
            "(a smaller momentum) mend that",
        )

    def _watched(self) -> keras.Layer:
        model = self.model  # on JAX, asking for it brings the variables up to date
        watched = model if self._part is None else self._part
        check_call(watched)
        return watched

    def _run_minibatch(self) -> None:
        if self._probe is None:
            self._probe = Probe(self._watched())
        self._latest = self._probe(next(self._minibatches))
        self.layers = list(self._latest)
        for path, corrections in self._latest.items():
            step = self._step_of(corrections.layer)
            self.history.append({"step": step, "layer": path, **_numbers(corrections)})
        if not self._warned:
            self._warned = _warn(
                self._latest,
                lambda layer: not layer.finite,
                f"have statistics that are not finite, after {self._steps} steps",
            )

    def _step_of(self, layer: keras.Layer) -> int:
        if not isinstance(layer, BatchRenormalization):
            return self._steps
        return int(keras.ops.convert_to_numpy(layer.step.value))


def _quantities(logs: Any) -> tuple[str, ...]:
    if isinstance(logs, str) and logs in ("summary", "all"):
        return SUMMARY if logs == "summary" else QUANTITIES
    if isinstance(logs, str) or not isinstance(logs, Iterable):
        raise ValueError(
            "`logs` must be 'summary', 'all', or a list of quantities, such as ['r_mean', "
            f"'d_mean']. Received: logs={logs!r}"
        )
    logs = tuple(logs)
    if not set(logs) <= set(QUANTITIES):
        raise ValueError(f"`logs` must be among {QUANTITIES}. Received: logs={logs!r}")
    return logs


def _summary(layers: Sequence[dict[str, float]]) -> dict[str, float]:
    """Returns what is most clipped of each of r and d, in which layer, and its bound."""
    summary = {}
    for name in ("r", "d"):
        # A layer of which all is masked has nothing clipped.
        worst = int(np.argmax(np.nan_to_num([layer[f"{name}_clipped"] for layer in layers])))
        summary[f"{name}_clipped"] = layers[worst][f"{name}_clipped"]
        summary[f"{name}_layer"] = float(worst)
        summary[f"{name}_max"] = layers[worst][f"{name}_max"]
    return summary


def _numbers(corrections: Corrections) -> dict[str, float]:
    """Returns the quantities of one layer; NaN where all of the minibatch is masked."""
    valid = corrections.valid
    r, d, ratio, shift = (
        values[valid] if valid.any() else np.array([np.nan])
        for values in (corrections.r, corrections.d, corrections.ratio, corrections.shift)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        stddev_distance = np.abs(np.log(ratio)).mean()
    values = (
        r.mean(),
        r.min(),
        r.max(),
        corrections.r_max,
        corrections.r_clipped,
        d.mean(),
        d.min(),
        d.max(),
        corrections.d_max,
        corrections.d_clipped,
        np.abs(shift).mean(),
        stddev_distance,
    )
    return {name: float(value) for name, value in zip(QUANTITIES, values, strict=True)}


def _held(corrections: Corrections) -> bool:
    """Whether the bounds are still at 1 and 0, though the layer's schedule leads further."""
    layer = corrections.layer
    if not isinstance(layer, BatchRenormalization):
        return False
    if (corrections.r_max, corrections.d_max) != (1.0, 0.0):
        return False
    return float(layer.r_max(_FAR)) > 1.0 or float(layer.d_max(_FAR)) > 0.0


def _warn(found: dict[str, Corrections], wrong: Callable[[Corrections], bool], what: str) -> bool:
    """Warns once of all layers that are `wrong`; returns whether there are any."""
    paths = [path for path, corrections in found.items() if wrong(corrections)]
    if paths:
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        warnings.warn(f"Layers {what}: {', '.join(paths[:_NAMED])}{more}.", stacklevel=3)
    return bool(paths)


def _minibatches(data: Any) -> Iterator[Any]:
    """Returns minibatches of inputs without end."""
    arrays = arrays_in(data)
    if arrays and all(hasattr(array, "shape") for array in arrays):
        return itertools.repeat(data)
    check_batches(data)
    if isinstance(data, Iterator):
        raise ValueError(
            "`data` must be one minibatch of inputs, or minibatches that can be gone through again "
            f"and again; a generator cannot. Received: data={data!r}"
        )
    return itertools.chain.from_iterable(_round(data) for _ in itertools.count())


def _round(data: Iterable[Any]) -> Iterator[Any]:
    number = 0
    for inputs in inputs_of(data):
        number += 1
        yield inputs
    if number == 0:
        raise ValueError(
            "RenormMonitor needs one minibatch at least, and its `data` have none. "
            f"Received: data={data!r}"
        )
