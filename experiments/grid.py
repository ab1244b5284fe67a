"""The grid of runs, as immutable data: scales, arms, and a named run for each arm and seed.

An *arm* is a way to normalize and to sample, one training run of the paper (Ioffe 2017, table and
figures of section 4). A *scale* is a data set, a network and a protocol in which every arm is
trained alike. A run is an arm at a scale with a seed: `digits-brn-4-s0`.
"""

import dataclasses
from dataclasses import dataclass

MINIBATCH = 32
"""Examples of a worker's minibatch, as in the paper."""


@dataclass(frozen=True)
class Arm:
    """A way to normalize and to sample.

    Attributes:
        name: as in run ids and in `results/paper.csv`.
        normalization: "bn" or "brn".
        group: examples normalized together, 32 for a worker's whole minibatch.
        sampling: "iid", or one of `sampling.ARRANGEMENTS` for class-structured minibatches:
            "adjacent", "apart" (halves) or "shuffled" over the step's minibatches.
        section, figure: where in the paper.
        label: name in legends.
        minibatch_statistics: whether to evaluate with minibatch statistics on structured
            validation minibatches, too.
    """

    name: str
    normalization: str
    group: int
    sampling: str
    section: str
    figure: int | None
    label: str
    minibatch_statistics: bool = False


ARMS = (
    Arm("bn-32", "bn", 32, "iid", "4.1", 1, "BN, i.i.d. minibatches of 32"),
    Arm("brn-32", "brn", 32, "iid", "4.1", 1, "BRN, i.i.d. minibatches of 32"),
    Arm("bn-4", "bn", 4, "iid", "4.2", 2, "BN, microbatches of 4"),
    Arm("brn-4", "brn", 4, "iid", "4.2", 2, "BRN, microbatches of 4"),
    Arm("bn-noniid", "bn", 32, "adjacent", "4.3", 3, "BN, non-i.i.d.", minibatch_statistics=True),
    Arm("bn-halves", "bn", 16, "apart", "4.3", 3, "BN, non-i.i.d., pairs in different halves"),
    Arm("brn-noniid", "brn", 32, "adjacent", "4.3", 3, "BRN, non-i.i.d."),
)


@dataclass(frozen=True)
class Scale:
    """A data set, a network and a protocol, the same for every arm.

    Attributes:
        name, title: for ids and for headings.
        source, image_size: name of the data and side of its images, as `data.load` takes them.
        network, width: as `models.build` takes them.
        steps: training steps of a run.
        workers: minibatches of 32 in a step; the gradient is over all of them.
        labels_per_minibatch, images_per_label: structure of a non-i.i.d. minibatch; their product
            is 32.
        test_labels_per_minibatch: labels of a structured validation minibatch, two images each in
            the paper, `images_per_label` here.
        learning_rate: at the first step; it decays exponentially.
        learning_rate_decay: factor between the first and the last step.
        rms_momentum, rms_epsilon: RMSProp's.
        alpha, epsilon: of the normalization, 1 - `momentum` and what is added to the variance.
        averaging: decay per step of the exponential moving average of all weights; at step t it is
            at most (1 + t) / (10 + t).
        flip, shift, padding, noise: of the training images, as in `augmentation.Augmentation`.
        evaluate_every: steps between two evaluations, and two checkpoints.
        evaluation_images: validation images, and as many training images, in an evaluation; all
            there are if there are fewer.
        seeds: of the runs that are reported.
        notes: in what this differs from the paper, in sentences.
    """

    name: str
    title: str
    source: str
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
    seeds: tuple[int, ...]
    notes: tuple[str, ...]
    image_size: int | None = None
    rms_momentum: float = 0.9
    rms_epsilon: float = 1e-3
    alpha: float = 0.01
    epsilon: float = 1e-3
    averaging: float = 0.99
    flip: bool = False
    shift: int = 0
    padding: str = "zeros"
    noise: float = 0.0

    def protocol(self) -> dict:
        """Returns the settings that decide what a run computes: a flat dict, ready for JSON."""
        settings = dataclasses.asdict(self)
        for name in ("name", "title", "seeds", "notes"):
            del settings[name]
        return settings


DIGITS = Scale(
    name="digits",
    title="digits in miniature",
    source="digits:2",
    network="inception_small",
    width=12,
    steps=300,
    workers=4,
    labels_per_minibatch=4,
    images_per_label=8,
    test_labels_per_minibatch=5,
    learning_rate=0.01,
    learning_rate_decay=0.1,
    evaluate_every=25,
    evaluation_images=1000,
    seeds=(0, 1, 2),
    alpha=0.1,
    averaging=0.95,
    notes=(
        "A demonstration, not evidence: numbers of two digits put together from scikit-learn's "
        "1,797 images of 8x8, 100 classes, a network of 12,000 weights, 300 steps.",
        "A non-i.i.d. minibatch is 4 labels x 8 images, not 16 x 2: of 100 classes, 16 labels a "
        "minibatch are nearly i.i.d. (the paper draws 16 of 1000).",
        "So halves of 16 still hold 4 labels x 4 images: here they are no cure, as the paper's "
        "halves are, which hold 16 labels once each.",
        "A step is 4 minibatches of 32, not 50: part of what non-i.i.d. sampling costs is the "
        "gradient's, which no normalization repairs.",
        "alpha is 0.1, not 0.01: in a run of 300 steps the moving statistics would lag behind by "
        "a third of it.",
    ),
)

TINY_IMAGENET = Scale(
    name="tiny_imagenet",
    title="Tiny ImageNet at 32x32",
    source="tiny_imagenet",
    network="inception_small",
    width=16,
    steps=400,
    workers=8,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.008,
    learning_rate_decay=0.1,
    evaluate_every=100,
    evaluation_images=2000,
    seeds=(0,),
    notes=(
        "A short run on real images, 1 epoch, one seed: it shows that everything works on the "
        "data, and is no test of the paper's claims.",
        "200 classes at 32x32, Inception in small, 8 minibatches of 32 a step; the paper has "
        "1000 classes at 299x299, Inception-v3, 50 minibatches.",
    ),
    flip=True,
    shift=4,
    padding="reflect",
)

IMAGENET = Scale(
    name="imagenet",
    title="ImageNet, the paper's scale",
    source="imagenet2012",
    image_size=299,
    network="inception_v3",
    width=0,
    steps=130_000,
    workers=50,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.045,
    learning_rate_decay=0.003,
    evaluate_every=1000,
    evaluation_images=50_000,
    seeds=(0,),
    averaging=0.9999,
    rms_epsilon=1.0,
    flip=True,
    notes=(
        "The learning rate, its decay, RMSProp's epsilon and the averaging are those usual for "
        "Inception-v3; the paper does not give them.",
        "Images are cut to a square about their centre and flipped at random: nothing else.",
    ),
)

SMOKE = Scale(
    name="smoke",
    title="a smoke test, not an experiment",
    source="digits",
    network="inception_small",
    width=2,
    steps=6,
    workers=2,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=1e-3,
    learning_rate_decay=0.1,
    evaluate_every=2,
    evaluation_images=100,
    seeds=(0, 1),
    notes=("Six steps on single digits: this shows that everything runs, and nothing else.",),
)

SCALES = (SMOKE, DIGITS, TINY_IMAGENET, IMAGENET)


@dataclass(frozen=True)
class Run:
    """One arm at one scale with one seed."""

    scale: Scale
    arm: Arm
    seed: int

    @property
    def id(self) -> str:
        """The run's name, and its result file's: `<scale>-<arm>-s<seed>`."""
        return f"{self.scale.name}-{self.arm.name}-s{self.seed}"

    def config(self) -> dict:
        """Returns all that decides what the run computes: a flat dict, ready for JSON."""
        return {
            "scale": self.scale.name,
            "arm": self.arm.name,
            "seed": self.seed,
            "normalization": self.arm.normalization,
            "group": self.arm.group,
            "sampling": self.arm.sampling,
            "minibatch_statistics": self.arm.minibatch_statistics,
            "minibatch_size": MINIBATCH,
            "total_steps": self.scale.steps,
            **{k: v for k, v in self.scale.protocol().items() if k != "steps"},
        }


def scale(name: str) -> Scale:
    """Returns the scale of this name, or raises a `ValueError` that lists them."""
    return _named("--scale", name, {scale.name: scale for scale in SCALES})


def runs(scale_name: str, arms=None, seeds=None) -> list[Run]:
    """Returns the runs of a scale, arm by arm.

    Args:
        scale_name: name of the scale.
        arms: names of arms, all by default.
        seeds: seeds, the scale's by default.

    Raises:
        ValueError: for a name that is not in the grid, or a negative seed.
    """
    chosen = scale(scale_name)
    by_name = {arm.name: arm for arm in ARMS}
    seeds = chosen.seeds if seeds is None else tuple(seeds)
    for seed in seeds:
        if seed < 0:
            raise ValueError(f"Expected seeds from 0 upwards. Received: --seeds {seed}")
    selected = [_named("--arms", name, by_name) for name in (arms or by_name)]
    return [Run(chosen, arm, seed) for arm in selected for seed in seeds]


def _named(option, name, known):
    if name not in known:
        raise ValueError(f"Expected {option} from {', '.join(known)}. Received: {option} {name}")
    return known[name]
