import io

import numpy as np
import pytest
from PIL import Image

from experiments.data.splits import (
    DecodedSplit,
    Encoded,
    EncodedSplit,
    MissingDataError,
    Source,
    read_image,
    stored,
)

pytestmark = pytest.mark.any_backend


def encoded(pixels):
    """An open file with the pixels as PNG, which keeps them exactly."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    file.seek(0)
    return file


class Grays:
    """Records of uniform gray images: number i has level 10 i and label i % 2."""

    def __init__(self, number, size):
        self.number, self.size, self.reads = number, size, 0

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        self.reads += 1
        return encoded(np.full((self.size, self.size, 3), 10 * index)), index % 2


def opened(size):
    return Encoded(("even", "odd"), (size, size, 3), Grays(6, size), Grays(4, size))


class TestReadImage:
    def test_keeps_an_image_of_the_right_size(self, rng):
        pixels = rng.integers(256, size=(5, 7, 3)).astype(np.uint8)
        np.testing.assert_array_equal(read_image(encoded(pixels), (5, 7, 3)), pixels)

    def test_a_pixel_of_half_the_size_is_the_mean_of_four(self):
        pixels = np.zeros((4, 4, 3))
        pixels[:2, :2, 0] = [[10, 20], [30, 40]]
        pixels[2:, 2:, 2] = 200
        expected = np.zeros((2, 2, 3))
        expected[0, 0, 0] = 25
        expected[1, 1, 2] = 200
        np.testing.assert_array_equal(read_image(encoded(pixels), (2, 2, 3)), expected)

    def test_cuts_about_the_centre(self):
        pixels = np.broadcast_to(np.array([0, 60, 60, 0])[:, np.newaxis, np.newaxis], (4, 2, 3))
        np.testing.assert_array_equal(
            read_image(encoded(pixels), (2, 2, 3)), np.full((2, 2, 3), 60)
        )

    def test_grayscale_becomes_rgb_and_rgb_grayscale(self):
        gray = read_image(encoded([[7, 9]]), (1, 2, 3))
        np.testing.assert_array_equal(gray, [[[7, 7, 7], [9, 9, 9]]])
        np.testing.assert_array_equal(read_image(encoded(gray), (1, 2, 1)), [[[7], [9]]])

    @pytest.mark.parametrize("kept", [0, 20, 300])
    def test_refuses_what_is_no_whole_image(self, tmp_path, rng, kept):
        file = tmp_path / "broken.png"
        pixels = rng.integers(256, size=(16, 16, 3))
        file.write_bytes(encoded(pixels).read()[:kept])
        with pytest.raises(ValueError, match=r"Pillow can read\. Received: .*broken\.png"):
            read_image(file, (16, 16, 3))


def test_decoded_and_encoded_splits_give_images_by_index():
    labels = np.array([0, 1, 0, 1])
    array = np.stack([np.full((8, 8, 3), 10 * index, np.uint8) for index in range(4)])
    for split in (DecodedSplit(labels, array), EncodedSplit(labels, Grays(4, 9), (8, 8, 3))):
        images = split.images(np.array([3, 1, 3]))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, array[[3, 1, 3]])
        assert len(split) == 4


def test_a_source_counts_its_classes():
    split = DecodedSplit(np.zeros(1, np.int64), np.zeros((1, 2, 2, 1), np.uint8))
    assert Source("two", ("a", "b"), (2, 2, 1), split, split).classes == 2


def test_missing_data_is_a_value_error():
    assert issubclass(MissingDataError, ValueError)


class TestStored:
    def test_small_images_are_read_from_the_copy(self, tmp_path):
        folder = tmp_path / "decoded" / "grays"
        first = stored(folder, "grays", lambda: opened(64))
        second = stored(folder, "grays", lambda: pytest.fail("the copy was not used"))
        for source in (first, second):
            assert (source.name, source.class_names) == ("grays", ("even", "odd"))
            assert source.image_shape == (64, 64, 3)
            assert source.train.labels.dtype == np.int64
            np.testing.assert_array_equal(source.train.labels, [0, 1, 0, 1, 0, 1])
            np.testing.assert_array_equal(source.validation.labels, [0, 1, 0, 1])
            images = source.train.images(np.array([5, 2]))
            np.testing.assert_array_equal(images[:, 0, 0, 0], [50, 20])
            assert images.shape == (2, 64, 64, 3)
        assert isinstance(second.train.array, np.memmap)

    def test_of_large_images_the_labels_are_stored(self, tmp_path):
        stored(tmp_path / "grays", "grays", lambda: opened(65))
        assert not list(tmp_path.rglob("*images*"))
        again = opened(65)
        source = stored(tmp_path / "grays", "grays", lambda: again)
        np.testing.assert_array_equal(source.train.labels, [0, 1, 0, 1, 0, 1])
        assert again.train.reads == 0
        images = source.train.images(np.array([5, 2]))
        assert again.train.reads == 2
        np.testing.assert_array_equal(images[:, 0, 0, 0], [50, 20])

    def test_an_interrupted_copy_leaves_nothing(self, tmp_path):
        broken = Encoded(("a",), (2, 2, 3), [(tmp_path / "none.png", 0)], [])
        with pytest.raises(ValueError, match=r"none\.png"):
            stored(tmp_path / "decoded" / "broken", "broken", lambda: broken)
        assert not list((tmp_path / "decoded").iterdir())

    def test_a_copy_made_meanwhile_by_another_run_is_used(self, tmp_path):
        folder = tmp_path / "grays"

        def slowly():
            stored(folder, "grays", lambda: opened(2))
            return opened(2)

        source = stored(folder, "grays", slowly)
        assert len(source.train) == 6
        assert [path.name for path in tmp_path.iterdir()] == ["grays"]
