"""A callback that watches r, d and their bounds while `fit` trains."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from brn.arguments import positive_integer
from brn.layers import BatchRenormalization
from brn.models.batches import check_batches, inputs_of
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

    They are in `history`, and the latest ones in the logs of every epoch, as
    `renorm/<layer>/<quantity>`. Callbacks that log, such as `CSVLogger` and `TensorBoard`, see them
    if they come after this one in `callbacks`; `History`, which `fit` returns, always does.

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
        logs: which of the quantities go into the logs; all by default. `history` has all.

    Attributes:
        history: a dict for each layer and minibatch: `step`, `layer` and the quantities. `step` is
            the optimizer's, before the training step that the numbers are for.

    Raises:
        ValueError: if `every` is not a positive integer, a quantity is unknown, or `data` cannot
            be gone through again; in `fit`, if `data` have no minibatch, or the model does not take
            what they hold.
    """

    def __init__(self, data: Any, every: int = 100, logs: Sequence[str] = QUANTITIES) -> None:
        super().__init__()
        self.every: int = positive_integer("every", every)
        if isinstance(logs, str) or not isinstance(logs, Iterable):
            raise ValueError(
                "`logs` must be a list of quantities, such as ['r_mean', 'd_mean']. "
                f"Received: logs={logs!r}"
            )
        self.logs = tuple(logs)
        if not set(self.logs) <= set(QUANTITIES):
            raise ValueError(f"`logs` must be among {QUANTITIES}. Received: logs={self.logs!r}")
        self.history: list[dict[str, Any]] = []
        self._minibatches = _minibatches(data)

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
        if due and self.model.built:
            self._run_minibatch()
        self._executions += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the latest minibatch's numbers to the logs."""
        if logs is None:
            return
        for path, corrections in self._latest.items():
            numbers = _numbers(corrections)
            logs.update({f"renorm/{path}/{name}": numbers[name] for name in self.logs})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Probes once more, and warns of what has gone wrong."""
        if not self.model.built:
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

    def _run_minibatch(self) -> None:
        model = self.model  # on JAX, asking for it brings the variables up to date
        if self._probe is None:
            self._probe = Probe(model)
        self._latest = self._probe(next(self._minibatches))
        step = int(keras.ops.convert_to_numpy(model.optimizer.iterations.value))
        for path, corrections in self._latest.items():
            self.history.append({"step": step, "layer": path, **_numbers(corrections)})
        if not self._warned:
            self._warned = _warn(
                self._latest,
                lambda layer: not layer.finite,
                f"have statistics that are not finite, at step {step}",
            )


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
    leaves = keras.tree.flatten(data)
    if leaves and all(hasattr(leaf, "shape") for leaf in leaves):
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
