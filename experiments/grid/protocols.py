"""The protocols: a data set, a network and how it is trained, alike for every arm."""

import dataclasses
from dataclasses import dataclass

from experiments.grid.arms import (
    ALPHAS,
    BOUNDS,
    CHAIN_DEPTHS,
    CONTROLS,
    DEGREES,
    DEPTHS,
    DIGITS_DEPTHS,
    GROUP_SIZES,
    HALVES,
    LATE,
    NONIID,
    NONIID_ALPHAS,
    PAPER,
    STRONGLY_STRUCTURED,
    TRAINED_LONGER,
    WITH_IID,
    Arm,
    Study,
    fast,
    synchronized,
    test_time,
)

MINIBATCH = 32
"""Examples of a worker's minibatch, as in the paper."""

_LATER = ("depth", "deep_width", "warp", "optimizer")

_THREE, _FIVE = tuple(range(3)), tuple(range(5))


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
        test_labels_per_minibatch: labels of a structured validation minibatch, two images each in
            the paper, `images_per_label` here.
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

    def settings(self) -> dict:
        """Returns the settings that decide what a run computes: a flat dict, ready for JSON."""
        left_out = {"name", "title", "classes", "training_images", "studies", "notes"}
        # Settings that came when there were runs already say nothing where they change nothing.
        left_out |= {name for name in _LATER if getattr(self, name) == getattr(Protocol, name)}
        names = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name not in left_out}

    @property
    def arms(self) -> dict[str, Arm]:
        """Every arm of the studies, by its name."""
        return {arm.name: arm for study in self.studies for arm in study.arms}


DIGITS = Protocol(
    name="digits",
    title="digits in miniature",
    source="digits:3",
    classes=1000,
    training_images=20_000,
    network="deep",
    width=16,
    depth=9,
    deep_width=96,
    stem_stride=2,
    steps=250,
    workers=8,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.015,
    learning_rate_decay=0.1,
    evaluate_every=25,
    evaluation_images=2000,
    studies=(
        Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, _FIVE),
        Study("halves", "what halves of 16 cost by their size", HALVES, _FIVE),
    ),
    alpha=0.1,
    averaging=0.95,
    noise=0.2,
    notes=(
        "A demonstration, not evidence: numbers of three digits put together from scikit-learn's "
        "1,797 images of 8x8, 1,000 classes, an Inception of 173,000 weights with nine "
        "normalization layers on its longest path, the last five on one position, 250 steps.",
        "A step is 8 minibatches of 32, not 50: the gradient suffers too from non-i.i.d. sampling. "
        "The shuffled arms get the same 256 images a step, dealt out anew before they are "
        "normalized: what they lose is mostly the gradient's, the rest is the normalization's.",
        "alpha is 0.1, not 0.01: in a run of 250 steps the moving statistics would lag behind by "
        "some 100 steps.",
    ),
)

DIGITS_DEPTH = dataclasses.replace(
    DIGITS,
    name="digits_depth",
    title="digits, by depth of normalization",
    studies=(
        Study("depth", "normalization layers, weights equal", DIGITS_DEPTHS, tuple(range(10, 16))),
    ),
    notes=(
        "As the protocol digits, a demonstration, but with networks of 5 to 17 normalization "
        "layers on the longest path, 1 to 13 of them on one position, of 173,000 weights "
        "throughout: a deeper network is a narrower one.",
        *DIGITS.notes[1:],
    ),
)

TINY_IMAGENET = Protocol(
    name="tiny_imagenet",
    title="Tiny ImageNet at 32x32",
    source="tiny_imagenet",
    classes=200,
    training_images=100_000,
    network="inception_small",
    width=32,
    modules=2,
    stem_stride=4,
    steps=1200,
    workers=8,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.008,
    learning_rate_decay=0.1,
    evaluate_every=150,
    evaluation_images=10_000,
    studies=(
        Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, _FIVE),
        Study("structure", "minibatches of 4 labels x 8 images", STRONGLY_STRUCTURED, _FIVE),
        Study("group-size", "examples normalized together", GROUP_SIZES, _THREE),
        Study("degree", "images of a label in a minibatch", DEGREES, _THREE),
        Study("bounds", "bounds of r and d", BOUNDS, _THREE),
        Study("high-rate", "bounds at a high learning rate", fast(0.032), _THREE),
        Study("alpha", "how fast the moving statistics move", ALPHAS, _THREE),
    ),
    notes=(
        "200 classes at 32x32, a small Inception of 334,000 weights, 1,200 steps (3 epochs) of "
        "8 minibatches of 32; the paper has 1000 classes at 299x299, Inception-v3, 130,000 and "
        "more steps (160 epochs) of 50 minibatches.",
        "Of 200 classes, 16 labels a minibatch are 8 %, of the paper's 1000 they are 1.6 %; "
        "minibatches of 4 labels x 8 images, 2 %, are arms of their own.",
        "With 8 minibatches a step the gradient suffers too from non-i.i.d. sampling. The shuffled "
        "arms get the same 256 images a step, dealt out anew before they are normalized: what they "
        "lose is mostly the gradient's, the rest is the normalization's.",
        "alpha is 0.1, not 0.01: averages over 100 steps would look back a twelfth of the run, the "
        "paper's look back a thousandth of theirs.",
    ),
    alpha=0.1,
    flip=True,
    shift=4,
    padding="reflect",
)

TINY_IMAGENET_LONG = dataclasses.replace(
    TINY_IMAGENET,
    name="tiny_imagenet_long",
    title="Tiny ImageNet at 32x32, trained longer",
    steps=6000,
    evaluate_every=500,
    studies=(Study("longer", "non-i.i.d. minibatches, 15 epochs", TRAINED_LONGER, _THREE),),
    notes=(
        "As the scale tiny_imagenet, but 6,000 steps (15 epochs) instead of 1,200, for the one "
        "question that a short run leaves open: does the harm of non-i.i.d. minibatches come late?",
        *TINY_IMAGENET.notes[1:3],
        "alpha is 0.1, as there: averages look back 10 steps.",
    ),
)

TINY_IMAGENET_DEEP = dataclasses.replace(
    TINY_IMAGENET,
    name="tiny_imagenet_deep",
    title="Tiny ImageNet at 32x32, deep",
    network="deep",
    modules=0,
    width=24,
    depth=16,
    deep_width=192,
    steps=11_720,
    alpha=0.01,
    evaluate_every=1172,
    studies=(Study("deep", "non-i.i.d. minibatches, 30 epochs", NONIID, _THREE),),
    notes=(
        "200 classes at 32x32, an Inception with 16 normalization layers on its longest path, the "
        "last 13 on one position, of 335,000 weights, trained for 30 epochs (11,720 steps of 8 "
        "minibatches of 32).",
        *TINY_IMAGENET.notes[2:3],
        "Of 200 classes, 16 labels a minibatch are 8 %, of the paper's 1000 they are 1.6 %.",
    ),
)

TINY_IMAGENET_GPU = dataclasses.replace(
    TINY_IMAGENET_DEEP,
    name="tiny_imagenet_gpu",
    title="Tiny ImageNet at 64x64, deep, for a GPU",
    source="tiny_imagenet/64x64",
    width=64,
    depth=17,
    deep_width=512,
    workers=50,
    steps=6250,
    learning_rate=0.016,
    evaluate_every=250,
    studies=(Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, _THREE),),
    notes=(
        "200 classes at 64x64, an Inception with 17 normalization layers on its longest path, the "
        "last 13 on one position, trained for 100 epochs (6,250 steps of the paper's 50 "
        "minibatches of 32).",
        TINY_IMAGENET_DEEP.notes[2],
    ),
)

OMNIGLOT = Protocol(
    name="omniglot",
    title="Omniglot, deep",
    source="omniglot_drawings",
    classes=964,
    training_images=15_424,
    image_size=28,
    network="deep",
    width=16,
    depth=16,
    deep_width=128,
    stem_stride=4,
    steps=6025,
    workers=8,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.016,
    learning_rate_decay=0.03,
    evaluate_every=482,
    evaluation_images=3856,
    studies=(Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, _FIVE),),
    shift=3,
    noise=0.3,
    warp=0.15,
    notes=(
        "964 handwritten characters, of which 16 labels a minibatch are 1.66 %, the paper's share; "
        "16 drawings of each to train on and 4 to validate, at 28x28, shifted, warped and noisy.",
        "An Inception with 16 normalization layers on its longest path, the last 13 on one "
        "position, of 255,000 weights, trained for 100 epochs (6,025 steps of 8 minibatches of "
        "32); the paper has Inception-v3 with 94 normalization layers, and 160 epochs of steps of "
        "50 minibatches.",
        "With 8 minibatches a step the gradient suffers too from non-i.i.d. sampling. The shuffled "
        "arms get the same 256 images a step, dealt out anew before they are normalized: what they "
        "lose is mostly the gradient's, the rest is the normalization's.",
    ),
)

OMNIGLOT_LONG = dataclasses.replace(
    OMNIGLOT,
    name="omniglot_long",
    title="Omniglot, deep, trained longer",
    steps=18_075,
    evaluate_every=1205,
    studies=(Study("late", "300 epochs", LATE, _THREE),),
    notes=(
        "As the protocol omniglot, but 18,075 steps (300 epochs): do averages and minibatch "
        "statistics change places, does batch normalization on non-i.i.d. minibatches fall?",
        *OMNIGLOT.notes[1:],
    ),
)

OMNIGLOT_DEPTH = dataclasses.replace(
    OMNIGLOT,
    name="omniglot_depth",
    title="Omniglot, by depth of normalization",
    source="omniglot_drawings/first_400",
    classes=400,
    training_images=6_400,
    steps=1000,
    evaluate_every=200,
    evaluation_images=1600,
    studies=(Study("depth", "normalization layers, weights equal", DEPTHS, _THREE),),
    notes=(
        "The first 400 characters of Omniglot, 40 epochs (1,000 steps of 8 minibatches of 32), "
        "from 4 to 32 normalization layers on the longest path, 132,000 weights throughout: a "
        "deeper network is a narrower one.",
        *OMNIGLOT.notes[2:],
    ),
)

OMNIGLOT_CHAIN = dataclasses.replace(
    OMNIGLOT_DEPTH,
    name="omniglot_chain",
    title="Omniglot, in a chain",
    network="chain",
    depth=14,
    deep_width=256,
    steps=2000,
    workers=4,
    optimizer="adam",
    learning_rate=0.004,
    learning_rate_decay=0.1,
    alpha=0.1,
    studies=(
        Study("paper", "non-i.i.d. minibatches, their controls, i.i.d. ones", WITH_IID, _FIVE),
        Study("structure", "minibatches of 4 labels x 8 images", STRONGLY_STRUCTURED, _THREE),
        Study("alpha", "how fast the moving statistics move", NONIID_ALPHAS, _THREE),
    ),
    notes=(
        "The first 400 characters of Omniglot, of which 16 labels a minibatch are 4 %, the paper's "
        "share is 1.6 %; 40 epochs (2,000 steps of 4 minibatches of 32).",
        "A network without branches: 14 normalization layers one after another, the last 11 on one "
        "position, of 835,000 weights. Adam, not RMSProp.",
        "With 4 minibatches a step the gradient suffers too from non-i.i.d. sampling. The shuffled "
        "arms get the same 128 images a step, dealt out anew before they are normalized: what they "
        "lose is mostly the gradient's, the rest is the normalization's.",
        "alpha is 0.1, not 0.01: averages over 100 steps would look back a twentieth of the run, "
        "the paper's look back a thousandth of theirs. Arms with 0.01 are a study of their own.",
    ),
)

OMNIGLOT_CHAIN_DEPTH = dataclasses.replace(
    OMNIGLOT_CHAIN,
    name="omniglot_chain_depth",
    title="Omniglot, by depth of a chain",
    studies=(
        Study("depth", "normalization layers, weights equal", CHAIN_DEPTHS, tuple(range(10, 13))),
    ),
    notes=(
        OMNIGLOT_CHAIN.notes[0],
        "Networks without branches, from 5 to 14 normalization layers one after another, of "
        "835,000 weights throughout: a deeper network is a narrower one. Adam, not RMSProp.",
        *OMNIGLOT_CHAIN.notes[2:3],
        OMNIGLOT_CHAIN.notes[3].removesuffix(" Arms with 0.01 are a study of their own."),
    ),
)

IMAGENET = Protocol(
    name="imagenet",
    title="ImageNet, the paper's scale",
    source="imagenet2012",
    classes=1000,
    training_images=1_281_167,
    image_size=299,
    network="inception_v3",
    width=0,
    steps=130_000,
    workers=50,
    labels_per_minibatch=16,
    images_per_label=2,
    test_labels_per_minibatch=25,
    learning_rate=0.045,
    learning_rate_decay=0.0066,
    evaluate_every=1000,
    evaluation_images=50_000,
    studies=(
        Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, (0,)),
        Study("synchronized", "statistics over all workers", (synchronized(),), (0,)),
    ),
    averaging=0.9999,
    rms_epsilon=1.0,
    flip=True,
    notes=(
        "The paper gives neither learning rate nor decay, RMSProp's settings, averaging, epsilon, "
        "augmentation or weight decay: `list` says of each value where it is from.",
        "Images are cut to a square about their centre and flipped at random: nothing else. There "
        "is no weight decay, dropout, label smoothing, gradient clipping or auxiliary classifier.",
    ),
)

SOURCES = {
    IMAGENET.name: {
        "source": "paper: ImageNet, section 4",
        "image_size": "chosen: Inception-v3's size (Szegedy et al. 2016)",
        "network": "paper: Inception-v3 (layers as in keras.applications), section 4",
        "width": "nothing to this network",
        "modules": "nothing to this network",
        "stem_stride": "nothing to this network",
        "steps": "paper: where bn-32 has its reported accuracy, section 4.1",
        "workers": "paper: section 4",
        "labels_per_minibatch": "paper: section 4.3",
        "images_per_label": "paper: section 4.3",
        "test_labels_per_minibatch": "paper: section 4.3",
        "learning_rate": "chosen: Szegedy et al. 2016, section 8, there with 50 replicas of 32 too",
        "learning_rate_decay": "chosen: 0.94 every 2 epochs (section 8 there), over 162 epochs",
        "evaluate_every": "chosen: 130 points of a curve",
        "evaluation_images": "chosen: all validation images, and as many training images",
        "rms_rho": "chosen: Szegedy et al. 2016, section 8",
        "rms_momentum": "chosen: TensorFlow's published training of Inception-v3",
        "rms_epsilon": "chosen: Szegedy et al. 2016, section 8",
        "alpha": "paper: section 4",
        "epsilon": "chosen: TensorFlow's published Inception-v3",
        "averaging": "chosen: TensorFlow's published training of Inception-v3",
        "flip": "chosen: usual for ImageNet",
        "shift": "chosen: none",
        "padding": "nothing without shifts",
        "noise": "chosen: none",
    },
}
"""Protocol -> setting -> where its value is from: the paper, or a choice, and after what."""

SMOKE = Protocol(
    name="smoke",
    title="a smoke test, not an experiment",
    source="digits",
    classes=10,
    training_images=1_438,
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
    studies=(Study("paper", "the paper's arms", PAPER, (0, 1)),),
    notes=("Six steps on single digits: this shows that everything runs, and nothing else.",),
)


def _test_time(protocol, name, note, **changes):
    """A protocol of the study of test-time statistics, with its own runs and results."""
    protocol = dataclasses.replace(protocol, **changes)
    arms = test_time(protocol.learning_rate)
    return dataclasses.replace(
        protocol,
        name=name,
        title=f"statistics at test time, {protocol.title}",
        workers=1,
        averaging=0.0,
        studies=(Study("test-time", "three questions about statistics at test time", arms, _FIVE),),
        notes=(
            "The plain textbook case: a step is one minibatch of 32, and the weights are evaluated "
            "as they are, not averaged over steps.",
            note,
        ),
    )


TEST_TIME = _test_time(
    DIGITS,
    "test_time",
    "Numbers of two digits, 100 classes, 8x16 pixels, and a network of 12,000 weights: effects, "
    "not sizes to expect elsewhere.",
    source="digits:2",
    classes=100,
    network="inception_small",
    width=12,
    modules=1,
    depth=0,
    deep_width=0,
    stem_stride=1,
    labels_per_minibatch=4,
    images_per_label=8,
    test_labels_per_minibatch=5,
    learning_rate=0.01,
    noise=0.0,
    steps=400,
    evaluate_every=40,
)

TEST_TIME_TINY_IMAGENET = _test_time(
    TINY_IMAGENET,
    "test_time_tiny_imagenet",
    "200 classes at 32x32, images as they are, not augmented; population statistics are those of "
    "20,000 of the 100,000 training images.",
    steps=6000,
    evaluate_every=600,
    flip=False,
    shift=0,
)

PROTOCOLS = (
    SMOKE,
    DIGITS,
    DIGITS_DEPTH,
    TINY_IMAGENET,
    TINY_IMAGENET_LONG,
    TINY_IMAGENET_DEEP,
    TINY_IMAGENET_GPU,
    OMNIGLOT,
    OMNIGLOT_LONG,
    OMNIGLOT_DEPTH,
    OMNIGLOT_CHAIN,
    OMNIGLOT_CHAIN_DEPTH,
    IMAGENET,
    TEST_TIME,
    TEST_TIME_TINY_IMAGENET,
)
