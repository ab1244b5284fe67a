"""Sources of labelled images by index, and their copy on disk, decoded.

`Records` are what a data set is made of: `len(records)` of them, `records[i]` a pair of an encoded
image (a path or an open file) and its label. A `Split` gives all labels, and images by index. The
images of a `DecodedSplit` are an array in memory or on disk; those of an `EncodedSplit` are decoded
when they are asked for.

`stored` decodes small images once, into memory-mapped arrays: reading a minibatch of 256 images of
32x32 takes a fraction of a millisecond instead of tens of milliseconds. Of larger images it stores
only the labels. Where the copy exists, small images need neither TensorFlow nor TFDS.

Pillow, numpy and the standard library are all that is needed here.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

SMALL = 64 * 64
"""Images of up to this many pixels are stored decoded."""

Shape = tuple[int, int, int]
Records = Sequence[tuple[str | Path | IO[bytes], int]]


class MissingDataError(ValueError):
    """A data set is not where it was looked for; the message has the command that gets it."""


@dataclass(frozen=True, eq=False)
class DecodedSplit:
    """Labelled images in an array, in memory or memory-mapped.

    Attributes:
        labels: int64, shape `(examples,)`.
        array: uint8, shape `(examples, height, width, channels)`.
    """

    labels: np.ndarray
    array: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images of the indices: uint8, `(len(indices), height, width, channels)`."""
        return np.asarray(self.array[np.asarray(indices)])


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Labelled images decoded, and brought to one size, when they are asked for.

    Attributes:
        labels: int64, shape `(examples,)`.
        records: where the encoded images are.
        image_shape: `(height, width, channels)` of the images given.
    """

    labels: np.ndarray
    records: Records
    image_shape: Shape

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Returns the images of the indices: uint8, `(len(indices), height, width, channels)`.

        Raises:
            ValueError: if a file is not an image that Pillow can read.
        """

        def read(index):
            return read_image(self.records[index][0], self.image_shape)

        indices = np.asarray(indices).tolist()
        with ThreadPoolExecutor() as threads:
            return np.stack(list(threads.map(read, indices)))


Split = DecodedSplit | EncodedSplit


@dataclass(frozen=True, eq=False)
class Source:
    """A data set with its two splits.

    Attributes:
        name: the name it was loaded by.
        class_names: name of each label.
        image_shape: `(height, width, channels)`.
        train: images to train on.
        validation: images to evaluate on.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: Shape
    train: Split
    validation: Split

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A data set as it comes: encoded images of any size.

    Attributes:
        class_names: name of each label.
        image_shape: `(height, width, channels)` that its images are brought to.
        train: records to train on.
        validation: records to evaluate on.
    """

    class_names: tuple[str, ...]
    image_shape: Shape
    train: Records
    validation: Records


def read_image(file: str | Path | IO[bytes], shape: Shape) -> np.ndarray:
    """Reads an image and brings it to a shape.

    The image is converted to grayscale (one channel) or RGB (three). One of another size is cut
    to the aspect ratio asked for, about its centre, and resized with a box filter: each new pixel
    is the mean of the old ones it covers. One of the right size stays as it is.

    Args:
        file: path, or open file.
        shape: `(height, width, channels)` with 1 or 3 channels.

    Returns:
        uint8 of that shape.

    Raises:
        ValueError: if it is not an image that Pillow can read.
    """
    height, width, channels = shape
    try:
        with Image.open(file) as image:
            pixels = image.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError for some broken files
        raise ValueError(
            f"Expected an image that Pillow can read. Received: {file} ({error}). "
            "Repair or remove the file."
        ) from error
    if pixels.size != (width, height):
        pixels = ImageOps.fit(pixels, (width, height), method=Image.Resampling.BOX)
    return np.asarray(pixels).reshape(shape)


def stored(folder: Path, name: str, open_encoded: Callable[[], Encoded]) -> Source:
    """Returns a source whose labels, and images if small, are stored in a folder.

    The folder is made on the first call, under another name until it is complete. Later calls read
    it; they call `open_encoded` only for images larger than `SMALL`, which are not stored.

    Args:
        folder: where the copy is, or will be.
        name: name of the source.
        open_encoded: opens the data set that is copied.

    Returns:
        The source.
    """
    if not folder.is_dir():
        _store(folder, open_encoded())
    description = json.loads((folder / "source.json").read_text())
    shape = tuple(description["image_shape"])
    encoded = None if _small(shape) else open_encoded()
    splits = {}
    for split in ("train", "validation"):
        labels = np.load(folder / f"{split}_labels.npy")
        if encoded is None:
            images = np.load(folder / f"{split}_images.npy", mmap_mode="r")
            splits[split] = DecodedSplit(labels, images)
        else:
            splits[split] = EncodedSplit(labels, getattr(encoded, split), shape)
    return Source(name, tuple(description["class_names"]), shape, **splits)


def _small(shape):
    return shape[0] * shape[1] <= SMALL


def _store(folder, encoded):
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="incomplete-", dir=folder.parent) as made:
        complete = Path(made) / folder.name
        complete.mkdir()
        for split in ("train", "validation"):
            _store_split(complete / split, getattr(encoded, split), encoded.image_shape)
        description = {"class_names": encoded.class_names, "image_shape": encoded.image_shape}
        (complete / "source.json").write_text(json.dumps(description))
        try:
            complete.rename(folder)
        except OSError:  # another run stored it meanwhile: its copy is as good
            if not folder.is_dir():
                raise


def _store_split(path, records, shape):
    labels = np.empty(len(records), np.int64)
    images = None
    if _small(shape):
        images = np.lib.format.open_memmap(
            f"{path}_images.npy", "w+", np.uint8, (len(records), *shape)
        )
    for index in range(len(records)):
        file, labels[index] = records[index]
        if images is not None:
            images[index] = read_image(file, shape)
    np.save(f"{path}_labels.npy", labels)
