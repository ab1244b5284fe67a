import json
from dataclasses import asdict

import numpy as np
import pytest

from experiments.data.augmentation import Augmentation, scale

pytestmark = pytest.mark.any_backend

IMAGE = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
"""Three rows of four pixels, 0 to 11."""


def changed(augmentation, images, seed=0):
    """The augmentation's result in the units of the stored images."""
    return (augmentation(images, np.random.default_rng(seed)) + 1) * 127.5


def test_scale_maps_bytes_to_minus_one_to_one():
    scaled = scale(np.array([0, 51, 204, 255], np.uint8))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-1, -0.6, 0.6, 1], atol=1e-6)


def test_no_augmentation_is_scale(rng):
    np.testing.assert_array_equal(Augmentation()(IMAGE, rng), scale(IMAGE))


def test_flip_mirrors_about_half_of_the_images():
    images = np.repeat(np.concatenate([IMAGE, IMAGE + 100], axis=-1), 400, axis=0)
    flipped = changed(Augmentation(flip=True), images)
    mirrored = np.abs(flipped - images[:, :, ::-1]).max((1, 2, 3)) < 1e-3
    kept = np.abs(flipped - images).max((1, 2, 3)) < 1e-3
    assert np.all(mirrored ^ kept)
    assert 160 < mirrored.sum() < 240


@pytest.mark.parametrize(
    ("padding", "row"),
    [
        ("zeros", {-1: [1, 2, 3, 0], 0: [0, 1, 2, 3], 1: [0, 0, 1, 2]}),
        ("reflect", {-1: [1, 2, 3, 2], 0: [0, 1, 2, 3], 1: [1, 0, 1, 2]}),
    ],
)
def test_shift_moves_images_every_way(padding, row):
    image = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, np.newaxis], (1, 3, 4, 1))
    across = changed(Augmentation(shift=1, padding=padding), np.repeat(image, 900, axis=0))
    # The middle row is never filled from above or below.
    middle = [tuple(line) for line in np.rint(across[:, 1, :, 0]).astype(int).tolist()]
    counts = {shift: middle.count(tuple(line)) for shift, line in row.items()}
    assert sum(counts.values()) == 900
    assert all(240 < count < 360 for count in counts.values())


def test_shifts_down_and_across_are_independent():
    image = np.zeros((900, 3, 3, 1), np.uint8)
    image[:, 1, 1] = 255
    moved = changed(Augmentation(shift=1), image)
    np.testing.assert_allclose(moved.sum((1, 2, 3)), 255, rtol=1e-4)
    places = np.bincount(moved.reshape(900, 9).argmax(1), minlength=9)
    assert np.all((places > 60) & (places < 140))


def test_noise_has_its_standard_deviation_and_is_not_clipped():
    black = np.zeros((50, 8, 8, 1), np.uint8)
    noisy = Augmentation(noise=0.5)(black, np.random.default_rng(0))
    assert noisy.dtype == np.float32
    assert abs(noisy.mean() + 1) < 0.03
    assert abs(noisy.std() - 0.5) < 0.03
    assert noisy.min() < -1


def test_same_generator_same_result_and_the_images_are_left_alone(rng):
    images = rng.integers(256, size=(8, 6, 6, 3)).astype(np.uint8)
    before = images.copy()
    augmentation = Augmentation(flip=True, shift=2, padding="reflect", noise=0.1)
    once, again = (changed(augmentation, images, seed=5) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert np.any(once != changed(augmentation, images, seed=6))
    np.testing.assert_array_equal(images, before)


def test_settings_survive_json():
    augmentation = Augmentation(flip=True, shift=2, padding="reflect", noise=0.1)
    assert Augmentation(**json.loads(json.dumps(asdict(augmentation)))) == augmentation


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        ({"shift": -1}, "shift=-1"),
        ({"noise": -0.5}, "noise=-0.5"),
        ({"padding": "mirror"}, "padding='mirror'"),
    ],
)
def test_refuses_other_settings(settings, received):
    with pytest.raises(ValueError, match=received):
        Augmentation(**settings)


def test_refuses_a_shift_as_large_as_the_image(rng):
    with pytest.raises(ValueError, match=r"shift=3, images of shape \(1, 3, 4, 1\)"):
        Augmentation(shift=3)(IMAGE, rng)


def test_a_warp_moves_a_point_by_its_linear_map():
    """With the map known, each new pixel is the old image at the mapped place, interpolated."""

    class Known:
        def uniform(self, low, high, size):
            assert (low, high, size) == (-0.2, 0.2, (1, 2, 2))
            return np.array([[[0.0, 0.5], [0.0, 0.0]]])  # down += across / 2

    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, :, 0] = 100  # a line across the middle
    warped = Augmentation(warp=0.2)._warped(image, Known())[0, ..., 0]
    # The new pixel (i, j) shows the old one at i + (j - 2) / 2: the line is there at i = 3 - j / 2.
    expected = np.zeros((5, 5))
    for column in range(5):
        down = 3 - column / 2
        whole = int(down)
        expected[whole, column] = 100 * (1 - (down - whole))
        if down > whole:
            expected[whole + 1, column] = 100 * (down - whole)
    np.testing.assert_allclose(warped, expected, atol=1e-4)


def test_warping_keeps_the_middle_and_fills_the_outside_with_black():
    images = np.full((64, 9, 9, 2), 200, np.uint8)
    warped = (Augmentation(warp=0.3)(images, np.random.default_rng(0)) + 1) * 127.5
    np.testing.assert_allclose(warped[:, 4, 4], 200, atol=1e-3)
    assert warped.min() > -1e-3
    assert warped.max() < 200.001
    assert (warped[:, 0, 0, 0] < 100).any()


def test_no_warp_changes_nothing():
    images = np.random.default_rng(0).integers(256, size=(3, 6, 6, 1), dtype=np.uint8)
    np.testing.assert_array_equal(
        Augmentation(warp=0.0)(images, np.random.default_rng(0)), scale(images)
    )


def test_a_negative_warp_is_refused():
    with pytest.raises(ValueError, match=r"warp=-0\.1"):
        Augmentation(warp=-0.1)
