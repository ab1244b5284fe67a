"""What a protocol is."""

import dataclasses
from dataclasses import dataclass

from experiments.grid.arms import Arm, Study

MINIBATCH = 32
"""Examples of a worker's minibatch, as in the paper."""

_LATER = ("depth", "deep_width", "warp", "optimizer", "test_images_per_label")

THREE, FIVE = tuple(range(3)), tuple(range(5))
"""Seeds."""


@dataclass(frozen=True)
class Protocol:
    """A data set, a network and how it is trained, the same for every arm.

    Attributes:
        name, title: for ids and for headings.
        source, image_size: name of the data and side of its images, as `data.load` takes them.
        classes, training_images: of the data: what guessing gets, and how long an epoch is.
        network, width, modules, stem_stride, depth, deep_width: as `models.build` takes them.
        steps: training steps of a run.
        workers: minibatches of 32 in a step; the gradient is over all of them.
        labels_per_minibatch, images_per_label: structure of a non-i.i.d. minibatch; their product
            is 32.
        test_labels_per_minibatch: labels of a structured validation minibatch.
        test_images_per_label: images of each, two in the paper; `images_per_label` if 0.
        learning_rate: at the first step; it decays exponentially.
        learning_rate_decay: factor between the first and the last step.
        optimizer: "rmsprop", or "adam" with Keras's other settings.
        rms_rho, rms_momentum, rms_epsilon: RMSProp's; nothing to Adam.
        alpha, epsilon: of the normalization, 1 - `momentum` and what is added to the variance.
        averaging: decay per step of the exponential moving average of all weights; at step t it is
            at most (1 + t) / (10 + t).
        flip, shift, padding, noise, warp: of the training images, as in
            `augmentation.Augmentation`.
        evaluate_every: steps between two evaluations, and two checkpoints.
        evaluation_images: validation images, and as many training images, in an evaluation; all
            there are if there are fewer.
        studies: arms that are compared, with their seeds.
        notes: in what this differs from the paper, in sentences.
    """

    name: str
    title: str
    source: str
    classes: int
    training_images: int
    network: str
    width: int
    steps: int
    workers: int
    labels_per_minibatch: int
    images_per_label: int
    test_labels_per_minibatch: int
    learning_rate: float
    learning_rate_decay: float
    evaluate_every: int
    evaluation_images: int
    studies: tuple[Study, ...]
    notes: tuple[str, ...]
    modules: int = 0
    stem_stride: int = 1
    image_size: int | None = None
    rms_rho: float = 0.9
    rms_momentum: float = 0.9
    rms_epsilon: float = 1e-3
    alpha: float = 0.01
    epsilon: float = 1e-3
    averaging: float = 0.99
    flip: bool = False
    shift: int = 0
    padding: str = "zeros"
    noise: float = 0.0
    depth: int = 0
    deep_width: int = 0
    warp: float = 0.0
    optimizer: str = "rmsprop"
    test_images_per_label: int = 0

    def settings(self) -> dict:
        """Returns the settings that decide what a run computes: a flat dict, ready for JSON."""
        left_out = {"name", "title", "classes", "training_images", "studies", "notes"}
        # Settings that came when there were runs already say nothing where they change nothing.
        left_out |= {name for name in _LATER if getattr(self, name) == getattr(Protocol, name)}
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in left_out}

    @property
    def test_structure(self) -> tuple[int, int]:
        """Labels of a structured validation minibatch, and images of each."""
        images = self.test_images_per_label or self.images_per_label
        return self.test_labels_per_minibatch, images

    @property
    def arms(self) -> dict[str, Arm]:
        """Every arm of the studies, by its name."""
        return {arm.name: arm for study in self.studies for arm in study.arms}


def gradient_note(workers: int) -> str:
    """Returns what is to be said of non-i.i.d. sampling with fewer workers than the paper's."""
    return (
        f"With {workers} minibatches a step the gradient suffers too from non-i.i.d. sampling. The "
        f"shuffled arms get the same {workers * MINIBATCH} images a step, dealt out anew before "
        "they are normalized: what they lose is mostly the gradient's, the rest is the "
        "normalization's."
    )
