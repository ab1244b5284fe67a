"""Tiny ImageNet: the reproduction, longer, deeper, and for a GPU."""

import dataclasses

from experiments.grid.arms import (
    ALPHAS,
    BOUNDS,
    CONTROLS,
    DEGREES,
    GROUP_SIZES,
    NONIID,
    PAPER,
    STRONGLY_STRUCTURED,
    TRAINED_LONGER,
    Study,
    fast,
)
from experiments.grid.protocols.protocol import FIVE, THREE, Protocol, gradient_note

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
        Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, FIVE),
        Study("structure", "minibatches of 4 labels x 8 images", STRONGLY_STRUCTURED, FIVE),
        Study("group-size", "examples normalized together", GROUP_SIZES, THREE),
        Study("degree", "images of a label in a minibatch", DEGREES, THREE),
        Study("bounds", "bounds of r and d", BOUNDS, THREE),
        Study("high-rate", "bounds at a high learning rate", fast(0.032), THREE),
        Study("alpha", "how fast the moving statistics move", ALPHAS, THREE),
    ),
    notes=(
        "200 classes at 32x32, a small Inception of 334,000 weights, 1,200 steps (3 epochs) of "
        "8 minibatches of 32; the paper has 1000 classes at 299x299, Inception-v3, 130,000 and "
        "more steps (160 epochs) of 50 minibatches.",
        "Of 200 classes, 16 labels a minibatch are 8 %, of the paper's 1000 they are 1.6 %; "
        "minibatches of 4 labels x 8 images, 2 %, are arms of their own.",
        gradient_note(workers=8),
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
    studies=(Study("longer", "non-i.i.d. minibatches, 15 epochs", TRAINED_LONGER, THREE),),
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
    studies=(Study("deep", "non-i.i.d. minibatches, 30 epochs", NONIID, THREE),),
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
    studies=(Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, THREE),),
    notes=(
        "200 classes at 64x64, an Inception with 17 normalization layers on its longest path, the "
        "last 13 on one position, trained for 100 epochs (6,250 steps of the paper's 50 "
        "minibatches of 32).",
        TINY_IMAGENET_DEEP.notes[2],
    ),
)
