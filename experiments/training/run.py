"""One run: train, average the weights, evaluate, checkpoint, resume, write the result once."""

import contextlib
import math
import time
from collections.abc import Callable

import keras
import numpy as np

from brn.backend import compiled
from experiments.data.augmentation import Augmentation
from experiments.data.pipeline import Minibatches
from experiments.data.sampling import Iid, Structured
from experiments.data.splits import Source
from experiments.grid.arms import Arm
from experiments.grid.protocols import MINIBATCH, Protocol
from experiments.grid.runs import Run
from experiments.records.store import Store, damaged_checkpoint
from experiments.training import models
from experiments.training.alone import ALONE
from experiments.training.environment import environment
from experiments.training.instruments import Accuracy, Clipping, Instrument, Losses, Moment

Progress = Callable[[Run, int], bool | None]
"""Is told that a run has reached a step; returns whether the run should stop there for now."""

Look = Callable[[Run, list[dict]], None]
"""Is shown the curve of a run."""

CHECKPOINT_MINUTES = 10.0
"""Between evaluations a checkpoint is written when the last one is that old."""

AHEAD = 2
"""Steps that are read while one is computed: one may be decoded while another is augmented."""

Instruments = Callable[["Trainer"], list[Instrument]]
"""Makes a trainer's instruments."""


class Trainer:
    """Trains the runs of one arm in one protocol, seed after seed, compiling once.

    A run computes the same whether it is the first of its trainer or not, and whether or not it
    was interrupted.

    Args:
        protocol: the protocol.
        arm: the arm.
        source: the protocol's data.
        more: makes instruments beside those of every run.
        devices: those of a group of processes, a `devices.Devices`; `None` for one process.
    """

    def __init__(
        self,
        protocol: Protocol,
        arm: Arm,
        source: Source,
        more: Instruments = lambda trainer: [],
        devices=None,
    ):
        self.devices, self.group = devices, devices.group if devices else ALONE
        self._of_all_arms = protocol
        protocol = Run(protocol, arm, seed=0).effective_protocol  # with what the arm changes in it
        self.protocol, self.arm, self.source = protocol, arm, source
        keras.utils.set_random_seed(0)  # a seed of a run comes later; processes must agree now
        with self._scope():
            self.model = self._compiled()
        self._new_optimizer = _values(self.model.optimizer.variables)
        self.instruments = [Losses(), Accuracy(self)]
        if arm.normalization.kind == "brn":
            self.instruments.append(Clipping(self))
        self.instruments += more(self)

    def _compiled(self):
        protocol, model = self.protocol, self.network()
        # Statistics over all devices are the backend's to reduce, in a step over all examples.
        if self.devices and self.arm.normalization.group is not None:
            model = self.devices.shared(model, MINIBATCH)
        decay = keras.optimizers.schedules.ExponentialDecay(
            protocol.learning_rate, protocol.steps, protocol.learning_rate_decay
        )
        optimizer = _optimizer(protocol, decay)
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=keras.config.backend() == "jax",
            metrics=[
                LastMinibatch(_cross_entropy, name="last_loss"),
                LastMinibatch(keras.metrics.sparse_categorical_accuracy, name="last_accuracy"),
            ],
        )
        optimizer.build(model.trainable_variables)
        return model

    def _scope(self):
        return self.devices.distribution.scope() if self.devices else contextlib.nullcontext()

    def network(self, **changes) -> keras.Model:
        """Builds the arm's network anew; `changes` are those of `models.of_arm`."""
        return models.of_arm(self.arm, self.protocol, self.source, **changes)

    def run(
        self,
        seed: int,
        store: Store,
        progress: Progress = lambda run, step: None,
        checkpoint_minutes: float = CHECKPOINT_MINUTES,
        look: Look = lambda run, curve: None,
    ) -> dict | None:
        """Trains one seed, from its checkpoint if it has one, and writes its result.

        Args:
            seed: initial weights, order of the data and augmentation follow from it; they are the
                same in every arm.
            store: where checkpoints and the result go.
            progress: is told of every step, and may stop the run there, with a checkpoint.
            checkpoint_minutes: how old a checkpoint gets before the next; there is one at every
                evaluation anyway.
            look: is shown the curve after each evaluation.

        Returns:
            The result, as written; `None` if the run was stopped.

        Raises:
            DamagedError: if there is a checkpoint that cannot be used.
        """
        run = Run(self._of_all_arms, self.arm, seed)
        self._reset(seed)
        course = _Course(self, run, store, progress, checkpoint_minutes, look)
        course.resume()
        minibatches = self.minibatches(seed, course.step, AHEAD)
        if course.step < self.protocol.steps and not course.diverged:
            with self._scope(), self.group.together():
                self.model.fit(minibatches, shuffle=False, verbose=0, callbacks=[course])
        if course.stopped:
            return None
        result = course.result()
        store.write_result(run, result)
        return result

    def minibatches(self, seed: int, first_step: int = 0, ahead: int = 0) -> Minibatches:
        """Returns the training data of a seed from a step on: what of it this process trains."""
        protocol, group = self.protocol, self.group
        share = protocol.workers * MINIBATCH // group.size
        return Minibatches(
            self.source.train,
            sampler(protocol, self.arm, self.source, seed),
            Augmentation(
                protocol.flip, protocol.shift, protocol.padding, protocol.noise, protocol.warp
            ),
            total_steps=protocol.steps,
            first_step=first_step,
            part=slice(group.rank * share, (group.rank + 1) * share),
            ahead=ahead,
        )

    def _reset(self, seed):
        keras.utils.set_random_seed(seed)
        _assign(self.model.variables, _values(self.network().variables))
        _assign(self.model.optimizer.variables, self._new_optimizer)


def _optimizer(protocol, learning_rate):
    if protocol.optimizer == "adam":
        return keras.optimizers.Adam(learning_rate)
    return keras.optimizers.RMSprop(
        learning_rate,
        rho=protocol.rms_rho,
        momentum=protocol.rms_momentum,
        epsilon=protocol.rms_epsilon,
    )


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

    def __init__(self, trainer, run, store, progress, checkpoint_minutes, look):
        super().__init__()
        self._look = look
        self._trainer, self._run, self._store, self._progress = trainer, run, store, progress
        self._checkpoint_seconds = 60 * checkpoint_minutes
        self.step, self.curve, self.diverged, self.stopped = 0, [], False, False
        self._average = _Average(trainer, trainer.protocol.averaging)
        for instrument in trainer.instruments:
            instrument.reset()
        self._before, self._started = 0.0, time.perf_counter()
        self._saved = self._started
        # Now, and not at the end: by then the repository may have moved on.
        self._environments = [environment()]
        if trainer.devices:
            self._environments[0] |= trainer.devices.described()

    def on_train_batch_begin(self, batch, logs=None):
        self._trainer.group.moved(self.step + 1)

    def on_train_batch_end(self, batch, logs=None):
        model = self.model  # on JAX, asking for it brings the variables up to date
        self.step += 1
        if not math.isfinite(logs["last_loss"]):
            self.diverged = model.stop_training = True
        else:
            self._average.update(self.step)
            for instrument in self._trainer.instruments:
                instrument.after_step(logs)
        protocol = self._trainer.protocol
        ended = self.diverged or self.step == protocol.steps
        evaluated = ended or self.step % protocol.evaluate_every == 0
        if evaluated:
            self._evaluate()
        self.stopped = bool(self._progress(self._run, self.step)) and not ended
        due = time.perf_counter() - self._saved >= self._checkpoint_seconds
        if evaluated or due or self.stopped:
            self._save()
        if evaluated:
            self._look(self._run, self.curve)
        if self.stopped:
            model.stop_training = True

    def _evaluate(self):
        point = {"step": self.step}
        if not self.diverged:
            moment = Moment(self._run, self.step, len(self.curve) + 1, self._average.weights)
            for instrument in self._trainer.instruments:
                point |= instrument.measure(moment)
        self.curve.append(point)

    def _elapsed(self):
        return self._before + time.perf_counter() - self._started

    def _save(self):
        model = self._trainer.model
        states = {
            "model": _values(model.variables),
            "optimizer": _values(model.optimizer.variables),
            "average": [value for part in self._average.weights for value in part],
        }
        kept = {}
        for instrument in self._trainer.instruments:
            for name, values in instrument.state().items():
                of_arrays = any(isinstance(value, np.ndarray) for value in values)
                (states if of_arrays else kept)[name] = values
        arrays = {f"{kind}_{i}": v for kind, vs in states.items() for i, v in enumerate(vs)}
        notes = {
            **kept,
            "step": self.step,
            "curve": self.curve,
            "diverged": self.diverged,
            "wall_time_s": self._elapsed(),
            "environments": self._environments,
        }
        self._store.write_checkpoint(self._run, notes, arrays)
        self._saved = time.perf_counter()

    def resume(self):
        """Goes back to the run's last checkpoint, if there is one."""
        saved = self._store.checkpoint(self._run)
        if saved is None:
            return
        notes, arrays = saved
        self.step, self.curve, self.diverged = notes["step"], notes["curve"], notes["diverged"]
        self._before = notes["wall_time_s"]
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

        state = dict(notes)
        for name, value in arrays.items():  # in the order in which they were written
            state.setdefault(name.rpartition("_")[0], []).append(value)
        for kind, variables in (
            ("model", model.variables),
            ("optimizer", model.optimizer.variables),
        ):
            if [v.shape for v in state[kind]] != [tuple(v.shape) for v in variables]:
                raise damaged_checkpoint(
                    self._store.checkpoint_path(self._run),
                    self._run,
                    f"{kind} weights of other shapes than this version's network has",
                )
        _assign(model.variables, state["model"])
        _assign(model.optimizer.variables, state["optimizer"])
        self._average.restore(state["average"])
        for instrument in self._trainer.instruments:
            instrument.restore(state)

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


class _Average:
    """Exponential moving average of all of a model's weights, mu and sigma included.

    ```
    average += (1 - decay(t)) * (weight - average),   decay(t) = min(decay, (1 + t) / (10 + t))
    ```

    The averages start at the initial weights; the second term is TensorFlow's usual warm-up.
    Whole numbers, such as the layers' step count, are taken over as they are.
    """

    def __init__(self, trainer, decay):
        model = trainer.model
        self._parts = (model.trainable_variables, model.non_trainable_variables)
        self._values_of = trainer.devices.local_values if trainer.devices else _tensors
        self._decay = decay
        self._move = compiled(_moved_averages)
        self.restore([value for part in self._parts for value in _values(part)])

    def update(self, step):
        keep = np.float32(1 - min(self._decay, (1 + step) / (10 + step)))
        values = [self._values_of(part) for part in self._parts]
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


def _tensors(variables):
    return [variable.value for variable in variables]


def _values(variables):
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
