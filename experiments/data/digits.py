"""The digits of scikit-learn, and numbers put together from them: data without any network.

`digits(1)` is the 1,797 images of 8x8 that scikit-learn carries, ten classes, split once and for
all into 1,438 to train on and 359 to validate on. `digits(k)` puts k of them side by side: numbers
of k digits, 8 x 8k pixels, 10^k classes. It is a harder task made of the same images, with enough
classes for the paper's structured minibatches of 16 labels; training numbers are made of training
digits and validation numbers of validation digits only.
"""

import numpy as np

from experiments.data.splits import DecodedSplit, Source

SPLIT_SEED = 0
VALIDATION_FRACTION = 0.2
NUMBERS = {"train": 20_000, "validation": 2_000}
"""Images of each split of the numbers of two and three digits: every class equally often."""


def digits(length: int = 1, name: str = "digits") -> Source:
    """Returns single digits, or numbers of several.

    Args:
        length: digits a number, 1, 2 or 3.
        name: name of the source.

    Returns:
        A source of images of shape `(8, 8 * length, 1)`, 0 (black) to 255, with `10**length`
        classes, in memory. Example `i` of two or three digits has label `i % 10**length`.

    Raises:
        ValueError: if `length` is another number.
    """
    if length not in (1, 2, 3):
        raise ValueError(
            f"Expected numbers of 1, 2 or 3 digits. Received: length={length}. "
            'The data sets are "digits", "digits:2" and "digits:3".'
        )
    splits = _single_digits()
    if length > 1:
        splits = {split: _numbers(digit, split, length) for split, digit in splits.items()}
    names = tuple(f"{label:0{length}d}" for label in range(10**length))
    return Source(name, names, (8, 8 * length, 1), **splits)


def _single_digits():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = labels.astype(np.int64)
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    held_out = []
    for label in range(10):
        of_label = shuffled[labels[shuffled] == label]
        held_out.append(of_label[: round(VALIDATION_FRACTION * len(of_label))])
    validation = np.zeros(len(labels), bool)
    validation[np.concatenate(held_out)] = True
    return {
        split: DecodedSplit(labels[chosen], images[chosen])
        for split, chosen in {"train": ~validation, "validation": validation}.items()
    }


def _numbers(single, split, length):
    labels = np.arange(NUMBERS[split]) % 10**length
    powers = 10 ** np.arange(length - 1, -1, -1)
    values = labels[:, np.newaxis] // powers % 10
    # For every position of every number, one of the images of its digit.
    by_value = np.argsort(single.labels, kind="stable")
    counts = np.bincount(single.labels)
    rng = np.random.default_rng((SPLIT_SEED, length))
    places = (np.cumsum(counts) - counts)[values] + rng.integers(counts[values])
    parts = single.array[by_value[places]]
    side_by_side = parts.swapaxes(1, 2).reshape(len(labels), 8, 8 * length, 1)
    return DecodedSplit(labels, side_by_side)
