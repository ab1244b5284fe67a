"""ImageNet's archives in small: the names and the nesting of the real ones, pictures of noise."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.data.load import prepare

CLASSES, IMAGES, VALIDATION = 20, 8, 100


def prepare_imagenet(data_dir: Path):
    """Writes archives and prepares `imagenet2012` from them; returns the source."""
    import tensorflow_datasets as tfds

    labels = tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()
    manual = data_dir / "downloads" / "manual"
    manual.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as train:
        for number in range(CLASSES):
            synset = labels[37 * number]
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for image in range(IMAGES):
                    _add(of_class, f"{synset}_{image}.JPEG", _jpeg(rng, number))
            _add(train, f"{synset}.tar", inner.getvalue())
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as validation:
        for image in range(1, VALIDATION + 1):
            _add(validation, f"ILSVRC2012_val_{image:08}.JPEG", _jpeg(rng, image))
    return prepare("imagenet2012", data_dir, image_size=75)


def _add(archive, name, contents):
    entry = tarfile.TarInfo(name)
    entry.size = len(contents)
    archive.addfile(entry, io.BytesIO(contents))


def _jpeg(rng, level):
    """An image of a size of its own, on average of a grey of its class."""
    height, width = rng.integers(80, 140, size=2)
    pixels = rng.normal(40 + 9 * (level % 20), 40, (height, width, 3)).clip(0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()
