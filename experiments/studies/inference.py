"""What the study of test-time statistics measures in a run, beside its accuracy.

Statistics are compared channel by channel in units of the population's standard deviation. They
are lists with a pair for each normalization layer: mean and variance of each channel. What is
measured, and why, is in `results/protocol-test-time.md`.
"""

from functools import partial

import keras
import numpy as np

from experiments.data.augmentation import scale as scaled
from experiments.data.sampling import CORRUPTION, generator
from experiments.grid.protocols import MINIBATCH
from experiments.training import evaluation, models

ALPHAS = (0.3, 0.1, 0.03, 0.01, 0.003)
"""Of the running averages that are kept beside the layers' own."""

SIZES = tuple(2**power for power in range(10))
"""Of test minibatches, 1 to 512."""

IMAGES = 1024
"""Validation images, the same at every size of a minibatch."""

POPULATION = 20_000
"""Training images, at most, that the population's statistics are taken of, in one piece."""

PARTITIONS = 4
"""Ways in which the images are dealt out to minibatches."""

NOISE_MINIBATCHES = 32
"""Training minibatches whose statistics are taken with the weights held still."""

CORRUPTED_SIZE = 64
"""Images of a corrupted test minibatch."""

CLASSES = (16, 8, 4, 2, 1)
"""Classes in a test minibatch of 16 images, as many images of each."""

CORRUPTIONS = {
    "clean": lambda images, noise: images,
    "brightness_0.25": lambda images, noise: images + 0.25,
    "brightness_0.5": lambda images, noise: images + 0.5,
    "brightness_1": lambda images, noise: images + 1.0,
    "contrast_0.5": lambda images, noise: images * 0.5,
    "contrast_0.25": lambda images, noise: images * 0.25,
    "contrast_0.125": lambda images, noise: images * 0.125,
    "noise_0.25": lambda images, noise: images + 0.25 * noise,
    "noise_0.5": lambda images, noise: images + 0.5 * noise,
    "noise_1": lambda images, noise: images + noise,
}
"""Of images in [-1, 1], which are not clipped; `noise` is standard normal."""

_STRONGEST = ("brightness_1", "contrast_0.125", "noise_1")
_EVALUATED = 512  # images a call


class Measurements:
    """Measures the runs of one trainer.

    Args:
        trainer: a `training.run.Trainer`, whose arm says what to measure.
    """

    def __init__(self, trainer):
        self._trainer = trainer
        arm, protocol, source = trainer.arm, trainer.protocol, trainer.source
        self.layers = normalization_layers(trainer.model)

        network = partial(models.of_arm, arm, protocol, source, alpha=1.0)

        images = evaluation.sample_indices(len(source.train), POPULATION)
        images = np.random.default_rng(0).permutation(images)  # minibatches of them are i.i.d.
        self._population = scaled(source.train.images(images))
        whole = network(kind="bn", group=len(images))
        self._plain_layers = normalization_layers(whole)
        self._plain = whole.non_trainable_variables
        self._whole = evaluation.state_function(whole)
        # The same forward pass as in training; alpha = 1 gives the minibatch's own statistics.
        self._own = evaluation.state_function(network())
        self._infer = evaluation.logits_function(whole, training=False)
        groups = network(kind="groups")
        self._group_variables = len(groups.non_trainable_variables)
        self._grouped = evaluation.logits_function(groups, training=False)
        self.reset()

    # Running averages

    def reset(self) -> None:
        """Begins a run: all running averages start at mean 0 and variance 1, as the layer's do."""
        self._before = self._kept()
        self.averages = [value.copy() for _ in ALPHAS for pair in self._before for value in pair]

    def after_step(self) -> None:
        """Moves the running averages by the statistics of the step's minibatch.

        The layers' own averages say what these were: `statistic = old + (new - old) / alpha`.
        """
        alpha = self._trainer.protocol.alpha
        now = self._kept()
        new = [value for pair in now for value in pair]
        old = [value for pair in self._before for value in pair]
        statistics = [a + (b - a) / alpha for a, b in zip(old, new, strict=True)]
        for number, rate in enumerate(ALPHAS):
            for i, statistic in enumerate(statistics, start=number * len(statistics)):
                self.averages[i] += rate * (statistic - self.averages[i])
        self._before = now

    def restore(self, averages: list[np.ndarray]) -> None:
        """Goes back to a checkpoint; the model's variables must have been restored before."""
        self.averages = [np.array(value) for value in averages]
        self._before = self._kept()

    def _kept(self):
        """Returns the layers' averages, as they average them: of the variance or its root."""
        return [(_numpy(layer.moving_mean), _numpy(_spread(layer))) for layer in self.layers]

    def _average(self, number):
        values = self.averages[2 * number * len(self.layers) :]
        return [
            (values[2 * i], self._variance(layer, values[2 * i + 1]))
            for i, layer in enumerate(self.layers)
        ]

    @staticmethod
    def _variance(layer, spread):
        if hasattr(layer, "moving_variance"):
            return np.maximum(spread, 0)
        return np.maximum(spread**2 - layer.epsilon, 0)

    # Statistics of given images

    def _statistics_of(self, images, trainable):
        """Returns the statistics of all images at once, layer after layer."""
        state = self._whole((trainable, [_numpy(v) for v in self._plain]), images)
        return self._pairs(state, self._plain, self._plain_layers)

    def _pairs(self, state, variables, layers):
        values = {id(v): np.asarray(x, np.float64) for v, x in zip(variables, state, strict=True)}
        return [
            (values[id(layer.moving_mean)], self._variance(layer, values[id(_spread(layer))]))
            for layer in layers
        ]

    def _inference_weights(self, trainable, statistics):
        values = {}
        for layer, (mean, variance) in zip(self._plain_layers, statistics, strict=True):
            values[id(layer.moving_mean)] = np.float32(mean)
            values[id(layer.moving_variance)] = np.float32(variance)
        return trainable, [values[id(variable)] for variable in self._plain]

    # Along the run

    def along(self, weights: evaluation.Weights, number: int) -> dict[str, float]:
        """Returns what is measured at the run's evaluation of this number, from 1, by measure."""
        still = self._still_minibatches(weights, self._trainer.protocol.workers * MINIBATCH)
        found = {}
        if "norms" in self._trainer.arm.measurements:
            found |= self._norms(weights, still)
        if "statistics" in self._trainer.arm.measurements and number % 2 == 0:
            found |= self._distances(self._statistics_of(self._population, weights[0]), still)
        return _rounded(found)

    def _still_minibatches(self, weights, size):
        """Returns the statistics of training minibatches with the weights held still."""
        variables = self._trainer.model.non_trainable_variables
        images = self._population[: NOISE_MINIBATCHES * size]
        parts = images.reshape(NOISE_MINIBATCHES, size, *images.shape[1:])
        return [self._pairs(self._own(weights, part), variables, self.layers) for part in parts]

    def _distances(self, population, still):
        found = {}
        statistics = {f"alpha_{a:g}": self._average(i) for i, a in enumerate(ALPHAS)}
        statistics["still"] = _mean(still)
        for name, values in statistics.items():
            mean, deviation = distances(values, population)
            found[f"mean_distance_{name}"], found[f"stddev_distance_{name}"] = mean, deviation
        sigma = np.sqrt(_joined(variance for _, variance in population) + self.layers[0].epsilon)
        means = np.array([_joined(mean for mean, _ in one) for one in still])
        found["minibatch_mean_noise"] = _rms(means.std(axis=0, ddof=1) / sigma)
        return found

    def _norms(self, weights, still):
        """Returns, of each layer, the norms of weights and of activations before and after it."""
        variables = self._trainer.model.non_trainable_variables
        averages, minibatch = self._pairs(weights[1], variables, self.layers), _mean(still)
        kernels = dict(
            zip([id(v) for v in self._trainer.model.trainable_variables], weights[0], strict=True)
        )
        found = {}
        for number, layer in enumerate(self.layers, start=1):
            convolution = layer.input._keras_history.operation
            mean, variance = minibatch[number - 1]
            mu, sigma2 = averages[number - 1]
            sigma2 = sigma2 + layer.epsilon
            kernel = kernels[id(convolution.kernel)].astype(np.float64)
            found[f"weight_norm_layer_{number:02}"] = float(np.sqrt((kernel**2).sum()))
            found[f"activation_rms_layer_{number:02}"] = _rms(np.sqrt(mean**2 + variance))
            found[f"normalized_rms_layer_{number:02}"] = _rms(
                np.sqrt(((mean - mu) ** 2 + variance) / sigma2)
            )
        return found

    # At the end of the run

    def at_the_end(self, weights: evaluation.Weights, seed: int) -> dict[str, float]:
        """Returns what is measured of a trained network, by measure."""
        if "minibatches" not in self._trainer.arm.measurements:
            return {}
        trainable, non_trainable = weights
        variables = self._trainer.model.non_trainable_variables
        split = self._trainer.source.validation
        chosen = evaluation.sample_indices(len(split), IMAGES)
        images, labels = scaled(split.images(chosen)), split.labels[chosen]
        running = self._pairs(non_trainable, variables, self.layers)
        population = self._statistics_of(self._population, trainable)
        kinds = {
            "running": running,
            "population": population,
            "test_set": self._statistics_of(images, trainable),
            **{f"alpha_{alpha:g}": self._average(i) for i, alpha in enumerate(ALPHAS)},
        }
        found = {
            f"accuracy_{name}_percent": _percent(self._with(trainable, kind, images), labels)
            for name, kind in kinds.items()
        }
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(images)) for _ in range(PARTITIONS)]
        for size in SIZES:
            logits = np.stack([self._dealt(trainable, images, size, order) for order in orders])
            found[f"accuracy_minibatch_{size:03}_percent"] = _percent(logits, labels)
            changes, movement = disagreement(logits)
            found[f"changes_minibatch_{size:03}_percent"] = changes
            found[f"movement_minibatch_{size:03}"] = movement
        found |= self._structured(trainable, split, running)
        found |= self._corrupted(trainable, images, labels, running, seed, orders[0])
        return _rounded(found)

    def _structured(self, trainable, split, running):
        found = {}
        size = CLASSES[0]
        for classes in CLASSES:
            chosen = evaluation.structured_indices(split, classes, size // classes, IMAGES)
            images, labels = scaled(split.images(chosen)), split.labels[chosen]
            for name, logits in (
                ("minibatch", self._in_groups(trainable, images, size)),
                ("running", self._with(trainable, running, images)),
            ):
                found[f"accuracy_classes_{classes:02}_{name}_percent"] = _percent(logits, labels)
        return found

    def _corrupted(self, trainable, images, labels, running, seed, order):
        noise = generator(seed, CORRUPTION, 0).standard_normal(images.shape, np.float32)
        sets = {name: corrupt(images, noise) for name, corrupt in CORRUPTIONS.items()}
        # Dealt out later in random order: a quarter of each, on average.
        which = np.arange(len(images)) % (len(_STRONGEST) + 1)
        mixed = np.stack([sets[name] for name in ("clean", *_STRONGEST)])
        sets["mixed"] = mixed[which, np.arange(len(images))]
        found = {}
        for name, corrupted in sets.items():
            corrupted = np.float32(corrupted)
            for kind, logits in (
                ("minibatch", self._dealt(trainable, corrupted, CORRUPTED_SIZE, order)),
                ("running", self._with(trainable, running, corrupted)),
            ):
                found[f"accuracy_{name}_{kind}_percent"] = _percent(logits, labels)
        return found

    def _with(self, trainable, statistics, images):
        weights = self._inference_weights(trainable, statistics)
        return _in_pieces(lambda part: self._infer(weights, part), images)

    def _in_groups(self, trainable, images, size):
        weights = trainable, [np.int32(size)] * self._group_variables
        return _in_pieces(lambda part: self._grouped(weights, part), images)

    def _dealt(self, trainable, images, size, order):
        """Returns the logits of images, in their order, dealt out to minibatches in `order`."""
        logits = self._in_groups(trainable, images[order], size)
        return logits[np.argsort(order)]


def normalization_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers of a model that keep a moving mean, in the model's order."""
    return [layer for layer in model.layers if hasattr(layer, "moving_mean")]


def distances(statistics, population, epsilon: float = 1e-3) -> tuple[float, float]:
    """Returns how far statistics are from the population's, root mean square over all channels.

    Args:
        statistics, population: `(mean, variance)` of each layer.
        epsilon: added to variances, as in the layers.

    Returns:
        Of `(mean - mu) / sigma`, and of `log(stddev / sigma)`, mu and sigma the population's.
    """
    mean, variance = (_joined(pair[i] for pair in statistics) for i in (0, 1))
    mu, sigma2 = (_joined(pair[i] for pair in population) for i in (0, 1))
    sigma2 = sigma2 + epsilon
    return _rms((mean - mu) / np.sqrt(sigma2)), _rms(np.log((variance + epsilon) / sigma2) / 2)


def disagreement(logits: np.ndarray) -> tuple[float, float]:
    """Returns how much the logits of the same images differ between partitions.

    Args:
        logits: `(partitions, images, classes)`.

    Returns:
        In how many pairs of partitions an image gets different predictions, in percent, and the
        standard deviation of a logit over partitions in units of the standard deviation of an
        image's logits; each is the root of a mean square, and what all logits of an image share
        does not count.
    """
    predicted = logits.argmax(axis=-1)
    number = len(predicted)
    pairs = [
        (predicted[i] != predicted[j]).mean() for i in range(number) for j in range(i + 1, number)
    ]
    centered = np.float64(logits) - logits.mean(axis=-1, keepdims=True)
    moved = centered.var(axis=0, ddof=1).mean()
    return 100 * float(np.mean(pairs)), float(np.sqrt(moved / (centered**2).mean()))


def _in_pieces(function, images):
    parts = range(0, len(images), _EVALUATED)
    return np.concatenate([function(images[start : start + _EVALUATED]) for start in parts])


def _percent(logits, labels):
    return 100 * float((logits.argmax(axis=-1) == labels).mean())


def _spread(layer):
    return layer.moving_variance if hasattr(layer, "moving_variance") else layer.moving_stddev


def _numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _mean(statistics):
    """Returns the mean of several lists of statistics."""
    return [tuple(np.mean(pairs, axis=0)) for pairs in zip(*statistics, strict=True)]


def _joined(values):
    return np.concatenate([np.asarray(value, np.float64) for value in values])


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def _rounded(found):
    return {name: float(f"{value:.5g}") for name, value in found.items()}
