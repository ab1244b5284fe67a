"""What is measured along a run: instruments look at every step, and say what they saw.

`run.Trainer` has those below; studies bring their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

import brn
from experiments.grid.protocols import MINIBATCH
from experiments.grid.runs import Run
from experiments.training import evaluation
from experiments.training.alone import ALONE

SPIKE_WINDOW = 50
SPIKE_HEIGHT = 0.5
"""A step is a spike if its loss is that much above the mean of the steps in the window before."""


@dataclass(frozen=True)
class Moment:
    """Where a run is when it is measured.

    Attributes:
        run: the run.
        step: steps done.
        number: of the evaluation, from 1.
        weights: the weights' averages, which are evaluated.
    """

    run: Run
    step: int
    number: int
    weights: evaluation.Weights

    @property
    def last(self) -> bool:
        """Whether the run ends here."""
        return self.step == self.run.steps


class Instrument:
    """Looks at the steps of a run and measures now and then; here it does nothing of it.

    What it keeps between steps is its `state`, so that a resumed run measures what an
    uninterrupted one would have.
    """

    def reset(self) -> None:
        """Begins a run; the model has its initial weights."""

    def after_step(self, logs: dict[str, float]) -> None:
        """Looks at a step whose loss is finite.

        Args:
            logs: `last_loss` and `last_accuracy` of the step's minibatches.
        """

    def measure(self, moment: Moment) -> dict[str, float]:
        """Returns values by measure, rounded as they are written."""
        return {}

    def state(self) -> dict[str, list]:
        """Returns what is kept: by name, all numbers or all arrays."""
        return {}

    def restore(self, state: dict[str, list]) -> None:
        """Goes back to a `state`, which has other instruments' entries too."""


class Losses(Instrument):
    """The training loss and the training minibatches' accuracy since the last measurement."""

    def reset(self):
        """Begins a run."""
        self._since, self._spikes = [], Spikes()

    def after_step(self, logs):
        """Takes the step's loss and accuracy."""
        self._since.append((float(logs["last_loss"]), float(logs["last_accuracy"])))

    def measure(self, moment):
        """Returns mean and maximum of the loss, its spikes, and the accuracy in percent."""
        losses, accuracies = np.array(self._since, np.float64).T
        self._since = []
        return {
            "training_loss": round(float(losses.mean()), 6),
            "training_loss_max": round(float(losses.max()), 6),
            "training_loss_spikes": self._spikes.count(losses.tolist()),
            "training_minibatch_accuracy_percent": round(100 * float(accuracies.mean()), 4),
        }

    def state(self):
        """Returns the window of the spikes, and the steps since the last measurement."""
        return {"losses": self._spikes.window, "since": self._since}

    def restore(self, state):
        """Goes back to them."""
        self._spikes = Spikes(state["losses"])
        self._since = [tuple(step) for step in state.get("since", [])]


class Spikes:
    """Counts the losses, after the first `SPIKE_WINDOW` of a run, that are spikes.

    A loss is a spike if it is more than `SPIKE_HEIGHT` above the mean of the `SPIKE_WINDOW` losses
    before it.

    Args:
        window: the last losses before those that will be counted, at most `SPIKE_WINDOW` of them.
    """

    def __init__(self, window: Sequence[float] = ()):
        self.window = list(window)

    def count(self, losses: Sequence[float]) -> int:
        """Returns how many of the next losses of the run are spikes."""
        losses = [*self.window, *losses]
        self.window = losses[-SPIKE_WINDOW:]
        if len(losses) <= SPIKE_WINDOW:
            return 0
        windows = np.lib.stride_tricks.sliding_window_view(np.array(losses), SPIKE_WINDOW)
        return int((losses[SPIKE_WINDOW:] > windows[:-1].mean(axis=1) + SPIKE_HEIGHT).sum())


class Accuracy(Instrument):
    """Accuracy of the averaged weights on validation and on training images.

    Args:
        trainer: a `run.Trainer`; its arm says whether minibatch statistics are evaluated, too.
    """

    def __init__(self, trainer):
        protocol, source = trainer.protocol, trainer.source
        self._group = trainer.group
        infer = evaluation.logits_function(trainer.model, training=False)
        self._evaluations = {}
        for name, split in (("validation", source.validation), ("training", source.train)):
            indices = evaluation.sample_indices(len(split), protocol.evaluation_images)
            self._evaluations[f"{name}_accuracy_percent"] = (
                infer,
                split,
                indices,
                evaluation.CHUNK,
            )
        if trainer.arm.minibatch_statistics:
            structure = protocol.test_structure
            size = math.prod(structure)
            self._evaluations["minibatch_statistics_accuracy_percent"] = (
                evaluation.logits_function(trainer.network(group=size), training=True),
                source.validation,
                evaluation.structured_indices(
                    source.validation, *structure, protocol.evaluation_images
                ),
                size * max(evaluation.CHUNK // size, 1),  # no minibatch is cut
            )

    def measure(self, moment):
        """Returns the accuracies in percent."""
        return {
            measure: round(
                evaluation.accuracy_percent(logits, moment.weights, *where, self._group), 4
            )
            for measure, (logits, *where) in self._evaluations.items()
        }


class Clipping(Instrument):
    """How much the last step's minibatches would have r and d clipped, in percent.

    Args:
        trainer: a `run.Trainer` of a network with Batch Renormalization.
    """

    def __init__(self, trainer):
        self._trainer = trainer
        # Of a group, each process looks at its own minibatches, with a network of its own.
        self._network = trainer.model if trainer.group is ALONE else trainer.network()
        self._probe = brn.Probe(self._network)

    def measure(self, moment):
        """Returns the percentages, of all layers and of each."""
        images, _ = self._trainer.minibatches(moment.run.seed)[moment.step - 1]
        parts = [images]
        if self._network is not self._trainer.model:
            for variable, value in zip(
                self._network.variables, self._trainer.model.variables, strict=True
            ):
                variable.assign(keras.ops.convert_to_numpy(value.value))
            parts = np.split(images, len(images) // MINIBATCH)
        seen = [evaluation.clipped_percent(self._probe, part) for part in parts]
        seen = [each for of_one in self._trainer.group.everyone(seen) for each in of_one]
        return {name: round(float(np.mean([each[name] for each in seen])), 4) for name in seen[0]}
