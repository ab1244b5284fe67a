"""Tiny ImageNet as a TFDS data set: 200 classes, 100,000 + 10,000 images of 32x32 or 64x64.

TFDS has no such builder, so this one reads the public archive from its manual folder. Importing
this module registers it: afterwards `tfds.builder("tiny_imagenet")` works like any other name.
Preparing it takes a few minutes and needs no network.
"""

import io
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from experiments.data.builders import describe
from experiments.data.splits import read_image
from experiments.data.tiny_imagenet_archive import INSTRUCTIONS, SIZES, Archive, find_archive


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Builds Tiny ImageNet from its public archive.

    Images of the configuration's size keep their pixels; those of another are resized with a box
    filter, so that from 64x64, as in the public archive, to 32x32 each pixel is the mean of four.
    Grayscale images become RGB.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Training and validation images."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = tuple(  # the first is the default
        tfds.core.BuilderConfig(name=size, description=f"Images of {size}", version="1.0.0")
        for size in SIZES
    )
    # Beside the code TFDS would look for checksums of downloads. There are none, and looking takes
    # importlib_resources, which TFDS 4.9.10 does not declare.
    code_path = None

    @property
    def _shape(self):
        side = SIZES[self.builder_config.name]
        return side, side, 3

    def _info(self):
        return describe(
            self,
            "Tiny ImageNet: 200 classes of ImageNet, resized.",
            self._shape,
            "http://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager):
        archive = Archive(find_archive(Path(dl_manager.manual_dir)))
        self.info.features["label"].names = list(archive.class_names)
        return {
            "train": self._generate_examples(archive, "train"),
            "validation": self._generate_examples(archive, "val"),
        }

    def _generate_examples(self, archive, folder):
        for name, contents, label in archive.examples(folder):
            image = _png(name, contents, self._shape)
            yield name.rpartition("/")[2], {"image": image, "label": label}


def _png(name, contents, shape):
    try:
        pixels = read_image(io.BytesIO(contents), shape)
    except ValueError as error:
        raise ValueError(f"Expected an image. Received: {name}. Get the archive again.") from error
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    encoded.seek(0)
    return encoded
