"""Minibatches of indices: independent examples, and minibatches structured by class.

A step of training is `workers` minibatches of `minibatch_size` examples, one after another in one
array of `workers * minibatch_size` indices; the model normalizes contiguous groups of it. A sampler
is a pure function of its settings and the step, so a resumed run sees the minibatches that an
uninterrupted one would have seen, and any step can be looked at by itself.

The paper's samplers (50 workers, minibatches of 32):
    sections 4.1 and 4.2: `Iid(examples, 50, 32)`
    section 4.3: `Structured(labels, 50)`: 16 labels, two images of each
    section 4.3, two halves: `Structured(labels, 50, arrangement="apart")`: the same images, the two
        of a label in different halves of 16
    section 4.3, test minibatches: `Structured(labels, 1, labels_per_minibatch=25)`

Only numpy is needed here.
"""

import functools
import operator
from dataclasses import dataclass, field

import numpy as np

EPOCHS, DRAWS, AUGMENTATION, CORRUPTION = range(4)
"""What a random stream is for: streams of different purposes are independent of each other."""

ARRANGEMENTS = ("adjacent", "apart", "shuffled")


def generator(seed: int, purpose: int, index: int) -> np.random.Generator:
    """Returns the random generator of one purpose at one index (a step, or an epoch).

    Args:
        seed: the run's seed, a whole number from 0.
        purpose: `EPOCHS`, `DRAWS`, `AUGMENTATION` or `CORRUPTION`.
        index: the step, or the epoch, a whole number from 0.

    Returns:
        A generator that depends on the three numbers alone.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, index)))


@dataclass(frozen=True)
class Iid:
    """Independent minibatches: shuffled epochs, each example once an epoch.

    The epochs' permutations form one endless sequence, and step `t` takes its elements
    `t * workers * minibatch_size` onwards. So within an epoch examples are drawn without
    replacement; a step that crosses the end of an epoch can hold an example twice.

    Attributes:
        examples: number of examples to draw from.
        workers: minibatches a step.
        minibatch_size: examples a minibatch.
        seed: whole number from 0.

    Raises:
        ValueError: if a number is below 1, `seed` is negative, or a minibatch is larger than the
            data.
    """

    examples: int
    workers: int
    minibatch_size: int
    seed: int = 0

    def __post_init__(self):
        _check_settings(
            self.seed,
            examples=self.examples,
            workers=self.workers,
            minibatch_size=self.minibatch_size,
        )
        if self.minibatch_size > self.examples:
            raise ValueError(
                "Expected a minibatch no larger than the data. Received: "
                f"minibatch_size={self.minibatch_size}, examples={self.examples}. "
                "Take a smaller minibatch."
            )

    def __call__(self, step: int) -> np.ndarray:
        """Returns the indices of a step, int64, shape `(workers * minibatch_size,)`."""
        size = self.workers * self.minibatch_size
        positions = _check_step(step) * size + np.arange(size)
        epochs, places = np.divmod(positions, self.examples)
        return np.concatenate(
            [
                _permutation(self.seed, epoch, self.examples)[places[epochs == epoch]]
                for epoch in range(epochs[0], epochs[-1] + 1)
            ]
        )


@functools.lru_cache(maxsize=4)
def _permutation(seed, epoch, examples):
    order = generator(seed, EPOCHS, epoch).permutation(examples)
    order.setflags(write=False)
    return order


@dataclass(frozen=True, eq=False)
class Structured:
    """Minibatches structured by class: some labels, and several images of each (section 4.3).

    Each minibatch draws `labels_per_minibatch` labels uniformly **with** replacement, and for each
    draw `images_per_label` distinct images of that label, uniformly without replacement. A label
    drawn twice draws its images twice, independently, so an image can occur in both draws.

    `arrangement` reorders the images of a step and never changes which they are:
        "adjacent": draw by draw, the images of a draw next to each other.
        "apart": each minibatch in `images_per_label` contiguous parts of `labels_per_minibatch`
            examples, each part with one image of every draw. Normalizing the parts by themselves
            gives the paper's two halves of 16.
        "shuffled": the images of the whole step in random order, over all its minibatches. A
            control: the same images, the structure of the minibatches gone.

    Attributes:
        labels: label of every example, whole numbers, shape `(examples,)`. The labels that occur
            are the ones drawn.
        workers: minibatches a step.
        labels_per_minibatch: labels drawn a minibatch.
        images_per_label: images of each drawn label.
        arrangement: one of the above.
        seed: whole number from 0.

    Raises:
        ValueError: if a number is below 1, `seed` is negative, `labels` is not a vector of whole
            numbers, the arrangement is unknown, or a class has fewer than `images_per_label`
            images.
    """

    labels: np.ndarray
    workers: int
    labels_per_minibatch: int = 16
    images_per_label: int = 2
    arrangement: str = "adjacent"
    seed: int = 0
    _by_class: np.ndarray = field(init=False, repr=False)
    _starts: np.ndarray = field(init=False, repr=False)
    _counts: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        _check_settings(
            self.seed,
            workers=self.workers,
            labels_per_minibatch=self.labels_per_minibatch,
            images_per_label=self.images_per_label,
        )
        if self.arrangement not in ARRANGEMENTS:
            raise ValueError(
                f"Expected arrangement to be one of {ARRANGEMENTS}. "
                f"Received: arrangement={self.arrangement!r}."
            )
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
            raise ValueError(
                "Expected labels to be a vector of whole numbers, one an example. Received: labels "
                f"of shape {labels.shape} and type {labels.dtype}."
            )
        classes, counts = np.unique(labels, return_counts=True)
        if counts.min() < self.images_per_label:
            few = counts.argmin()
            raise ValueError(
                f"Expected at least images_per_label={self.images_per_label} images of every "
                f"class. Received: {counts[few]} of class {classes[few]}. "
                "Lower images_per_label, or leave small classes out."
            )
        object.__setattr__(self, "_by_class", np.argsort(labels, kind="stable"))
        object.__setattr__(self, "_starts", np.cumsum(counts) - counts)
        object.__setattr__(self, "_counts", counts)

    @property
    def minibatch_size(self) -> int:
        """Examples a minibatch: `labels_per_minibatch * images_per_label`."""
        return self.labels_per_minibatch * self.images_per_label

    def __call__(self, step: int) -> np.ndarray:
        """Returns the indices of a step, int64, shape `(workers * minibatch_size,)`."""
        rng = generator(self.seed, DRAWS, _check_step(step))
        drawn = rng.integers(self._counts.size, size=(self.workers, self.labels_per_minibatch))
        places = _distinct(rng, self._counts[drawn], self.images_per_label)
        images = self._by_class[self._starts[drawn][..., np.newaxis] + places]
        if self.arrangement == "apart":
            images = images.swapaxes(1, 2)
        images = images.reshape(-1)
        return rng.permutation(images) if self.arrangement == "shuffled" else images


def _distinct(rng, counts, number):
    """Draws `number` distinct whole numbers below each of `counts`, in a new last dimension."""
    chosen = np.empty((*counts.shape, number), np.int64)
    for position in range(number):
        # A rank among the numbers not chosen yet; stepping over the chosen ones, in order,
        # turns the rank into the number itself.
        rank = rng.integers(counts - position)
        for earlier in np.moveaxis(np.sort(chosen[..., :position]), -1, 0):
            rank += rank >= earlier
        chosen[..., position] = rank
    return chosen


def _check_settings(seed, **numbers):
    for name, value in numbers.items():
        if operator.index(value) < 1:
            raise ValueError(f"Expected {name} to be at least 1. Received: {name}={value}.")
    if operator.index(seed) < 0:
        raise ValueError(f"Expected seed to be a whole number from 0. Received: seed={seed}.")


def _check_step(step):
    if operator.index(step) < 0:
        raise ValueError(f"Expected step to be a whole number from 0. Received: step={step}.")
    return operator.index(step)
