"""One run: train, average the weights, evaluate, checkpoint, resume, write the result once."""

import math
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

import brn
from brn.backend import compiled
from experiments.data.augmentation import Augmentation
from experiments.data.pipeline import Minibatches
from experiments.data.sampling import Iid, Structured
from experiments.data.splits import Source
from experiments.grid.arms import Arm
from experiments.grid.protocols import MINIBATCH, Protocol
from experiments.grid.runs import Run
from experiments.records.store import Store
from experiments.studies import inference
from experiments.training import evaluation, models
from experiments.training.environment import environment

SPIKE_WINDOW = 50
SPIKE_HEIGHT = 0.5
"""A step is a spike if its loss is that much above the mean of the steps in the window before."""

Progress = Callable[[Run, int], None]
"""Is told that a run has reached a step."""


class Trainer:
    """Trains the runs of one arm in one protocol, seed after seed, compiling once.

    A run computes the same whether it is the first of its trainer or not, and whether or not it
    was interrupted.

    Args:
        protocol: the protocol.
        arm: the arm.
        source: the protocol's data.
    """

    def __init__(self, protocol: Protocol, arm: Arm, source: Source):
        protocol = Run(protocol, arm, seed=0).effective_protocol  # with what the arm changes in it
        self.protocol, self.arm, self.source = protocol, arm, source
        self.model = self._network()
        decay = keras.optimizers.schedules.ExponentialDecay(
            protocol.learning_rate, protocol.steps, protocol.learning_rate_decay
        )
        optimizer = keras.optimizers.RMSprop(
            decay,
            rho=protocol.rms_rho,
            momentum=protocol.rms_momentum,
            epsilon=protocol.rms_epsilon,
        )
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=keras.config.backend() == "jax",
            metrics=[
                LastMinibatch(_cross_entropy, name="last_loss"),
                LastMinibatch(keras.metrics.sparse_categorical_accuracy, name="last_accuracy"),
            ],
        )
        optimizer.build(self.model.trainable_variables)
        self._new_optimizer = _values(optimizer.variables)
        self._evaluations = self._prepare_evaluations()
        self.measurements = inference.Measurements(self) if arm.measurements else None

    def _network(self, **normalization):
        return models.of_arm(self.arm, self.protocol, self.source, **normalization)

    def _prepare_evaluations(self):
        """Returns measure -> (logits function, split, indices, images at a time)."""
        protocol, source = self.protocol, self.source
        infer = evaluation.logits_function(self.model, training=False)
        evaluations = {}
        for name, split in (("validation", source.validation), ("training", source.train)):
            indices = evaluation.sample_indices(len(split), protocol.evaluation_images)
            evaluations[f"{name}_accuracy_percent"] = (infer, split, indices, evaluation.CHUNK)
        if self.arm.minibatch_statistics:
            structure = (protocol.test_labels_per_minibatch, protocol.images_per_label)
            size = math.prod(structure)
            by_minibatch = self._network(group=size)
            evaluations["minibatch_statistics_accuracy_percent"] = (
                evaluation.logits_function(by_minibatch, training=True),
                source.validation,
                evaluation.structured_indices(
                    source.validation, *structure, protocol.evaluation_images
                ),
                size * max(evaluation.CHUNK // size, 1),  # no minibatch is cut
            )
        return evaluations

    def evaluate(self, weights: evaluation.Weights) -> dict[str, float]:
        """Returns the accuracy of these weights in percent, by measure."""
        return {
            measure: evaluation.accuracy_percent(logits, weights, *where)
            for measure, (logits, *where) in self._evaluations.items()
        }

    def run(self, seed: int, store: Store, progress: Progress = lambda run, step: None) -> dict:
        """Trains one seed, from its checkpoint if it has one, and writes its result.

        Args:
            seed: initial weights, order of the data and augmentation follow from it; they are the
                same in every arm.
            store: where checkpoints and the result go.
            progress: is told of every step.

        Returns:
            The result, as written.
        """
        run = Run(self.protocol, self.arm, seed)
        self._reset(seed)
        course = _Course(self, run, store, progress)
        course.resume()
        minibatches = self.minibatches(seed, course.step)
        if course.step < self.protocol.steps and not course.diverged:
            self.model.fit(minibatches, shuffle=False, verbose=0, callbacks=[course])
        result = course.result()
        store.write_result(run, result)
        return result

    def minibatches(self, seed: int, first_step: int = 0) -> Minibatches:
        """Returns the training data of a seed from a step on."""
        protocol = self.protocol
        return Minibatches(
            self.source.train,
            sampler(protocol, self.arm, self.source, seed),
            Augmentation(
                protocol.flip, protocol.shift, protocol.padding, protocol.noise, protocol.warp
            ),
            total_steps=protocol.steps,
            first_step=first_step,
        )

    def _reset(self, seed):
        keras.utils.set_random_seed(seed)
        _assign(self.model.variables, _values(self._network().variables))
        _assign(self.model.optimizer.variables, self._new_optimizer)


def sampler(protocol: Protocol, arm: Arm, source: Source, seed: int) -> Iid | Structured:
    """Returns the sampler of an arm; arms that sample alike see the same minibatches."""
    if arm.sampling == "iid":
        return Iid(len(source.train), protocol.workers, MINIBATCH, seed)
    return Structured(
        source.train.labels,
        protocol.workers,
        protocol.labels_per_minibatch,
        protocol.images_per_label,
        arm.sampling,
        seed,
    )


class _Course(keras.callbacks.Callback):
    """The course of one run: moves the averages, evaluates, keeps the curve and checkpoints."""

    def __init__(self, trainer, run, store, progress):
        super().__init__()
        self._trainer, self._run, self._store, self._progress = trainer, run, store, progress
        self.step, self.curve, self.diverged = 0, [], False
        self._average = _Average(trainer.model, run.protocol.averaging)
        self._since_evaluation, self._spikes = [], Spikes()
        self._probe = brn.Probe(trainer.model) if trainer.arm.normalization == "brn" else None
        self._measurements = trainer.measurements
        if self._measurements:
            self._measurements.reset()
        self._before, self._started = 0.0, time.perf_counter()
        # Now, and not at the end: by then the repository may have moved on.
        self._environments = [environment()]

    def on_train_batch_end(self, batch, logs=None):
        model = self.model  # on JAX, asking for it brings the variables up to date
        self.step += 1
        self._since_evaluation.append((float(logs["last_loss"]), float(logs["last_accuracy"])))
        if not math.isfinite(logs["last_loss"]):
            self.diverged = model.stop_training = True
        else:
            self._average.update(self.step)
            if self._measurements:
                self._measurements.after_step()
        protocol = self._run.protocol
        if self.diverged or self.step % protocol.evaluate_every == 0 or self.step == protocol.steps:
            self._evaluate()
            self._save()
        self._progress(self._run, self.step)

    def _evaluate(self):
        losses, accuracies = np.array(self._since_evaluation, np.float64).T
        self._since_evaluation = []
        point = {"step": self.step}
        if not self.diverged:
            point["training_loss"] = round(float(losses.mean()), 6)
            point["training_loss_max"] = round(float(losses.max()), 6)
            point["training_loss_spikes"] = self._spikes.count(losses.tolist())
            point["training_minibatch_accuracy_percent"] = round(100 * float(accuracies.mean()), 4)
            measures = self._trainer.evaluate(self._average.weights)
            if self._probe:
                images, _ = self._trainer.minibatches(self._run.seed)[self.step - 1]
                measures |= evaluation.clipped_percent(self._probe, images)
            point.update({measure: round(value, 4) for measure, value in measures.items()})
            point.update(self._measured())
        self.curve.append(point)

    def _measured(self):
        if self._measurements is None:
            return {}
        weights = self._average.weights
        measured = self._measurements.along(weights, len(self.curve) + 1)
        if self.step == self._run.protocol.steps:
            measured |= self._measurements.at_the_end(weights, self._run.seed)
        return measured

    def _elapsed(self):
        return self._before + time.perf_counter() - self._started

    def _save(self):
        model = self._trainer.model
        states = {
            "model": _values(model.variables),
            "optimizer": _values(model.optimizer.variables),
            "average": [value for part in self._average.weights for value in part],
            "measurements": self._measurements.averages if self._measurements else [],
        }
        arrays = {f"{kind}_{i}": v for kind, vs in states.items() for i, v in enumerate(vs)}
        notes = {
            "step": self.step,
            "curve": self.curve,
            "losses": self._spikes.window,
            "diverged": self.diverged,
            "wall_time_s": self._elapsed(),
            "environments": self._environments,
        }
        self._store.write_checkpoint(self._run, notes, arrays)

    def resume(self):
        """Goes back to the run's last checkpoint, if there is one."""
        saved = self._store.checkpoint(self._run)
        if saved is None:
            return
        notes, arrays = saved
        self.step, self.curve, self.diverged = notes["step"], notes["curve"], notes["diverged"]
        self._spikes, self._before = Spikes(notes["losses"]), notes["wall_time_s"]
        now = self._environments[-1]
        begun_with = notes["environments"][0]["backend"]
        if begun_with != now["backend"]:
            raise ValueError(
                f"A run goes on with the backend it was begun with. Received: {self._run.id} of "
                f"KERAS_BACKEND={begun_with}, now KERAS_BACKEND={now['backend']}. Set it back, or "
                f"delete {self._store.checkpoint_path(self._run)} to begin again."
            )
        self._environments = notes["environments"]
        if now != self._environments[-1]:
            self._environments.append(now)
        model = self._trainer.model

        def values(kind):
            return [arrays[f"{kind}_{i}"] for i in range(sum(k.startswith(kind) for k in arrays))]

        _assign(model.variables, values("model"))
        _assign(model.optimizer.variables, values("optimizer"))
        self._average.restore(values("average"))
        if self._measurements:
            self._measurements.restore(values("measurements"))

    def result(self):
        """Returns the result of the run."""
        return {
            "id": self._run.id,
            "status": "diverged" if self.diverged else "finished",
            "config": self._run.config(),
            "environment": self._environments[0],
            "resumed_with": self._environments[1:],
            "parameters": self._trainer.model.count_params(),
            "wall_time_s": round(self._elapsed(), 1),
            "curve": self.curve,
        }


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


class _Average:
    """Exponential moving average of all of a model's weights, mu and sigma included.

    ```
    average += (1 - decay(t)) * (weight - average),   decay(t) = min(decay, (1 + t) / (10 + t))
    ```

    The averages start at the initial weights; the second term is TensorFlow's usual warm-up.
    Whole numbers, such as the layers' step count, are taken over as they are.
    """

    def __init__(self, model, decay):
        self._parts = (model.trainable_variables, model.non_trainable_variables)
        self._decay = decay
        self._move = compiled(_moved_averages)
        self.restore([value for part in self._parts for value in _values(part)])

    def update(self, step):
        keep = np.float32(1 - min(self._decay, (1 + step) / (10 + step)))
        values = [[variable.value for variable in part] for part in self._parts]
        self._averages = self._move(keep, self._averages, values)

    @property
    def weights(self):
        """The averages of the trainable and of the non-trainable variables, as arrays."""
        return tuple([keras.ops.convert_to_numpy(a) for a in part] for part in self._averages)

    def restore(self, values):
        tensors = [keras.ops.convert_to_tensor(value.copy()) for value in values]
        trainable = len(self._parts[0])
        self._averages = [tensors[:trainable], tensors[trainable:]]


def _moved_averages(keep, averages, values):
    def moved(average, value):
        whole = keras.backend.is_int_dtype(average.dtype)
        return average + (value - average if whole else keep * (value - average))

    return [
        [moved(*pair) for pair in zip(*part, strict=True)]
        for part in zip(averages, values, strict=True)
    ]


class LastMinibatch(keras.metrics.Metric):
    """The mean of a function over the last minibatch, not over the epoch so far.

    Args:
        function: of labels and predictions, gives one value an example.
        name: name of the metric in the logs.
    """

    def __init__(self, function, name):
        super().__init__(name=name)
        self._function = function
        self.value = self.add_variable((), "zeros", name="value")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Replaces the value."""
        self.value.assign(keras.ops.mean(self._function(y_true, y_pred)))

    def result(self):
        """Returns the value."""
        return keras.ops.convert_to_tensor(self.value)


def _cross_entropy(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def _values(variables):
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
