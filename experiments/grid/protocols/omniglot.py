"""Omniglot: the paper's share of labels, longer, by depth, and in a chain."""

import dataclasses

from experiments.grid.arms import (
    CHAIN_DEPTHS,
    CHAIN_ENDS,
    CONTROLS,
    DEPTHS,
    LATE,
    NONIID,
    NONIID_ALPHAS,
    PAPER,
    STRONGLY_STRUCTURED,
    WITH_IID,
    Study,
)
from experiments.grid.protocols.protocol import FIVE, THREE, Protocol, gradient_note

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
    studies=(Study("paper", "the paper's arms, and their controls", PAPER + CONTROLS, FIVE),),
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
        gradient_note(workers=8),
    ),
)

OMNIGLOT_LONG = dataclasses.replace(
    OMNIGLOT,
    name="omniglot_long",
    title="Omniglot, deep, trained longer",
    steps=18_075,
    evaluate_every=1205,
    studies=(Study("late", "300 epochs", LATE, THREE),),
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
    studies=(Study("depth", "normalization layers, weights equal", DEPTHS, THREE),),
    notes=(
        "The first 400 characters of Omniglot, 40 epochs (1,000 steps of 8 minibatches of 32), "
        "from 4 to 32 normalization layers on the longest path, 132,000 weights throughout: a "
        "deeper network is a narrower one.",
        *OMNIGLOT.notes[2:],
    ),
)

_STRUCTURED = tuple(
    dataclasses.replace(
        arm,
        changes=arm.changes | {"test_labels_per_minibatch": 12, "test_images_per_label": 4},
    )
    if arm.minibatch_statistics
    else arm
    for arm in STRONGLY_STRUCTURED
)
"""A character has four validation images: structured validation minibatches are 12 x 4."""

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
        Study("paper", "non-i.i.d. minibatches, their controls, i.i.d. ones", WITH_IID, FIVE),
        Study("structure", "minibatches of 4 labels x 8 images", _STRUCTURED, THREE),
        Study("alpha", "how fast the moving statistics move", NONIID_ALPHAS, THREE),
    ),
    notes=(
        "The first 400 characters of Omniglot, of which 16 labels a minibatch are 4 %, the paper's "
        "share is 1.6 %; 40 epochs (2,000 steps of 4 minibatches of 32).",
        "A network without branches: 14 normalization layers one after another, the last 11 on one "
        "position, of 835,000 weights. Adam, not RMSProp.",
        gradient_note(workers=4),
        "alpha is 0.1, not 0.01: averages over 100 steps would look back a twentieth of the run, "
        "the paper's look back a thousandth of theirs. Arms with 0.01 are a study of their own.",
    ),
)

OMNIGLOT_CHAIN_LONG = dataclasses.replace(
    OMNIGLOT_CHAIN,
    name="omniglot_chain_long",
    title="Omniglot, in a chain, trained longer",
    steps=6000,
    evaluate_every=600,
    studies=(Study("late", "non-i.i.d. minibatches, 120 epochs", NONIID, FIVE),),
    notes=(
        "As the protocol omniglot_chain, but 6,000 steps (120 epochs): what becomes of the damage "
        "and of its repair once the network fits its minibatches?",
        *OMNIGLOT_CHAIN.notes[1:3],
        "alpha is 0.1, as there.",
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

OMNIGLOT_CHAIN_DEPTH_AGAIN = dataclasses.replace(
    OMNIGLOT_CHAIN_DEPTH,
    name="omniglot_chain_depth_again",
    title="Omniglot, the shallowest and the deepest chain again",
    studies=(Study("depth", "the least layers and the most", CHAIN_ENDS, tuple(range(20, 28))),),
)
