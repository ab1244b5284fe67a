"""Digits: the paper in miniature, its depth, and a smoke test."""

import dataclasses

from experiments.grid.arms import CONTROLS, DIGITS_DEPTHS, HALVES, PAPER, Study
from experiments.grid.protocols.protocol import FIVE, Protocol

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
        Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, FIVE),
        Study("halves", "what halves of 16 cost by their size", HALVES, FIVE),
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
