"""Statistics at test time: one minibatch a step, weights as they are."""

import dataclasses

from experiments.grid.arms import Study, test_time
from experiments.grid.protocols.digits import DIGITS
from experiments.grid.protocols.protocol import FIVE
from experiments.grid.protocols.tiny_imagenet import TINY_IMAGENET


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
        studies=(Study("test-time", "three questions about statistics at test time", arms, FIVE),),
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
