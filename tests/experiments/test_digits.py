import numpy as np
import pytest

from experiments.data.digits import digits

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def single():
    return digits()


def lookup(split):
    """Label of every image of a split, by its pixels."""
    images = split.images(np.arange(len(split)))
    return {image.tobytes(): label for image, label in zip(images, split.labels, strict=True)}


def test_single_digits_are_those_of_scikit_learn(single):
    from sklearn.datasets import load_digits

    original = load_digits()
    assert (len(single.train), len(single.validation)) == (1438, 359)
    assert (single.classes, single.image_shape) == (10, (8, 8, 1))
    assert single.class_names == tuple("0123456789")
    splits = lookup(single.train) | lookup(single.validation)
    assert len(splits) == 1797
    for image, label in zip(original.images, original.target, strict=True):
        # 16 grey levels above black: 16 becomes 255, 8 becomes 127.5, rounded to even.
        assert splits[np.rint(image / 16 * 255).astype(np.uint8).tobytes()] == label


def test_single_digits_are_split_in_each_class_alike(single):
    train, validation = (np.bincount(split.labels) for split in (single.train, single.validation))
    np.testing.assert_array_equal(validation, np.rint(0.2 * (train + validation)))


@pytest.mark.parametrize("length", [2, 3])
def test_numbers_are_their_digits_side_by_side(single, length):
    source = digits(length, f"digits:{length}")
    assert source.name == f"digits:{length}"
    assert source.image_shape == (8, 8 * length, 1)
    assert source.classes == 10**length
    assert source.class_names[7] == "007"[-length:]
    for split, whole in ((source.train, single.train), (source.validation, single.validation)):
        known = lookup(whole)
        for index in range(0, len(split), 37):
            (image,) = split.images([index])
            digit_images = [image[:, 8 * place : 8 * place + 8] for place in range(length)]
            read = "".join(
                str(known[np.ascontiguousarray(digit).tobytes()]) for digit in digit_images
            )
            assert read == source.class_names[split.labels[index]]


@pytest.mark.parametrize(("length", "train", "validation"), [(2, 200, 20), (3, 20, 2)])
def test_every_number_is_equally_often(length, train, validation):
    source = digits(length)
    assert set(np.bincount(source.train.labels)) == {train}
    assert set(np.bincount(source.validation.labels)) == {validation}


def test_numbers_are_the_same_every_time_and_varied():
    once, again = digits(3), digits(3)
    np.testing.assert_array_equal(once.train.array, again.train.array)
    assert len(lookup(once.train)) > 19_900


def test_refuses_other_lengths():
    with pytest.raises(ValueError, match="Received: length=4"):
        digits(4)
