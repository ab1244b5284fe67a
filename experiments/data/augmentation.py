"""From stored images to a model's input: scaling, and random changes of training images."""

from dataclasses import dataclass

import numpy as np

PADDINGS = {"zeros": "constant", "reflect": "reflect"}
"""What fills the border of a shifted image, and numpy's name for it."""


def scale(images: np.ndarray) -> np.ndarray:
    """Returns the images as a model sees them: `x / 127.5 - 1`, float32 in [-1, 1].

    Args:
        images: uint8, any shape.

    Returns:
        float32 of the same shape.
    """
    scaled = np.multiply(images, np.float32(1 / 127.5), dtype=np.float32)
    scaled -= np.float32(1)
    return scaled


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images; by default none, which leaves `scale`.

    Each image is flipped with probability 1/2, then moved by whole pixels, as far as `shift` in
    each direction, down and across independently and uniformly, then warped, scaled, and then gets
    noise.
    The paper does not say which augmentation it used: these settings are this project's choice.

    Attributes:
        flip: flip images left to right. Not for digits.
        shift: largest shift in pixels, below the height and the width of the images.
        padding: what fills the border of a shifted image: "zeros" (black) or "reflect" (the image
            mirrored at its edge).
        warp: how far a random linear map of the plane about the image's centre is from the
            identity: each of its four numbers by up to `warp`, independently and uniformly. That is
            a mixture of rotation, shear and change of size. Pixels are interpolated linearly, and
            those from outside the image are black.
        noise: standard deviation of Gaussian noise, in units of the scaled image, whose range is
            2; the noisy image is not clipped.

    Raises:
        ValueError: if `shift`, `noise` or `warp` is negative, or `padding` is unknown.
    """

    flip: bool = False
    shift: int = 0
    padding: str = "zeros"
    noise: float = 0.0
    warp: float = 0.0

    def __post_init__(self):
        if self.padding not in PADDINGS:
            raise ValueError(
                f"Expected padding to be one of {tuple(PADDINGS)}. "
                f"Received: padding={self.padding!r}."
            )
        if min(self.shift, self.noise, self.warp) < 0:
            raise ValueError(
                "Expected shift, noise and warp to be at least 0. "
                f"Received: shift={self.shift}, noise={self.noise}, warp={self.warp}."
            )

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns changed images, float32 in [-1, 1] before the noise.

        Args:
            images: uint8, shape `(examples, height, width, channels)`.
            rng: where the randomness comes from; the result depends on its state alone.

        Returns:
            float32 of the same shape.

        Raises:
            ValueError: if `shift` is not below the images' height and width.
        """
        if self.flip or self.shift:
            images = self._moved(images, rng)
        if self.warp:
            images = self._warped(images, rng)
        images = scale(images)
        if self.noise:
            noise = rng.standard_normal(images.shape, np.float32)
            noise *= np.float32(self.noise)
            images += noise
        return images

    def _moved(self, images, rng):
        examples, height, width, channels = images.shape
        if self.shift >= min(height, width):
            raise ValueError(
                "Expected a shift below the images' height and width. "
                f"Received: shift={self.shift}, images of shape {images.shape}."
            )
        flipped = np.flatnonzero(rng.integers(2, size=examples) * self.flip)
        tops, lefts = rng.integers(2 * self.shift + 1, size=(2, examples)).tolist()
        chosen = images[flipped]
        mirrored = np.empty_like(chosen)
        for channel in range(channels):  # three times faster than all channels at once
            mirrored[..., channel] = chosen[:, :, ::-1, channel]
        images = images.copy()
        images[flipped] = mirrored
        border = (self.shift, self.shift)
        padded = np.pad(images, ((0, 0), border, border, (0, 0)), mode=PADDINGS[self.padding])
        moved = np.empty_like(images)
        # Slices of one image at a time are several times faster than one gather of all pixels.
        for image, source, top, left in zip(moved, padded, tops, lefts, strict=True):
            image[:] = source[top : top + height, left : left + width]
        return moved

    def _warped(self, images, rng):
        examples, height, width, channels = images.shape
        maps = np.eye(2) + rng.uniform(-self.warp, self.warp, size=(examples, 2, 2))
        down, across = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
        centre = np.float32([[(height - 1) / 2], [(width - 1) / 2]])
        places = maps.astype(np.float32) @ (np.stack([down, across]) - centre) + centre
        # One pixel of black on each side: what lies farther outside is taken from there.
        limits = np.float32([[height], [width]])
        places = np.clip(places + 1, 0, limits + np.float32(0.999))
        whole = places.astype(np.int32)
        rests = places - whole
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(examples, -1, channels)
        corner = whole[:, 0] * (width + 2) + whole[:, 1]
        corner += (np.arange(examples, dtype=np.int32) * padded.shape[1])[:, np.newaxis]
        flat = padded.reshape(-1, channels).astype(np.float32)
        down, across = rests[:, 0, :, np.newaxis], rests[:, 1, :, np.newaxis]
        top = flat[corner] * (1 - across) + flat[corner + 1] * across
        corner += width + 2
        bottom = flat[corner] * (1 - across) + flat[corner + 1] * across
        return (top + (bottom - top) * down).reshape(images.shape)
