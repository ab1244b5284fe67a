"""Tiny ImageNet as a TFDS data set of 32x32 images: 200 classes, 100,000 + 10,000 images.

TFDS has no such builder, so this one reads the public archive from its manual folder. Importing
this module registers it: afterwards `tfds.builder("tiny_imagenet")` works like any other name.
Preparing it takes a few minutes and needs no network.
"""

import io
from collections import Counter
from pathlib import Path

import tensorflow_datasets as tfds
from PIL import Image

from experiments.data.archives import files
from experiments.data.builders import describe
from experiments.data.splits import MissingDataError, read_image

TOP = "tiny-imagenet-200"
SHAPE = (32, 32, 3)
ARCHIVES = (TOP, f"{TOP}.zip", f"{TOP}*.zip", f"{TOP}*.tar*")
"""What is looked for in the manual folder; the first match is taken."""

INSTRUCTIONS = f"""\
Put http://cs231n.stanford.edu/{TOP}.zip into the manual folder, as it is or unpacked. A copy of it
with images of 32x32 in the same layout does as well: a folder {TOP}, or {TOP}*.zip, or
{TOP}*.tar.xz (or another compression of tar), with everything under {TOP}/."""


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Builds Tiny ImageNet from its public archive.

    Read are `train/<wnid>/images/*.JPEG`, `val/images/*.JPEG`, `val/val_annotations.txt`,
    `wnids.txt` and `words.txt`. Labels are in the order of `wnids.txt` and named as in
    "n02124075 Egyptian cat". Images of 32x32 keep their pixels; those of another size, 64x64 in the
    public archive, are resized with a box filter, so that each pixel is the mean of four.
    Grayscale images become RGB. The archive's test images have no labels and are left out.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "32x32, training and validation images."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    # Beside the code TFDS would look for checksums of downloads. There are none, and looking takes
    # importlib_resources, which TFDS 4.9.10 does not declare.
    code_path = None

    def _info(self):
        return describe(
            self,
            "Tiny ImageNet: 200 classes of ImageNet, resized to 32x32.",
            SHAPE,
            "http://cs231n.stanford.edu/",
        )

    def _split_generators(self, dl_manager):
        archive = find_archive(Path(dl_manager.manual_dir))
        texts = {
            name: contents.decode()
            for name, contents in files(archive, TOP)
            if name in ("wnids.txt", "words.txt", "val/val_annotations.txt")
        }
        for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
            if name not in texts:
                raise ValueError(
                    f"Expected {TOP}/{name} in the archive. Received: {archive}, which has none. "
                    "Get the archive again."
                )
        wnids = texts["wnids.txt"].split()
        words = dict(line.split("\t", 1) for line in texts["words.txt"].splitlines() if line)
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        self.info.features["label"].names = [f"{wnid} {words[wnid]}" for wnid in wnids]
        annotations = dict(
            line.split("\t")[:2] for line in texts["val/val_annotations.txt"].splitlines() if line
        )
        return {
            "train": self._generate_examples(archive, "train", labels, annotations),
            "validation": self._generate_examples(archive, "val", labels, annotations),
        }

    def _generate_examples(self, archive, split, labels, annotations):
        seen = Counter()
        for name, contents in files(archive, TOP):
            parts = name.split("/")
            if parts[0] != split or parts[-2] != "images":
                continue
            wnid = parts[1] if split == "train" else annotations.get(parts[-1])
            if wnid not in labels:
                raise ValueError(
                    f"Expected a class of wnids.txt for every image. Received: {wnid} for {name} "
                    f"in {archive}. Get the archive again."
                )
            seen[wnid] += 1
            yield parts[-1], {"image": _png(name, contents), "label": labels[wnid]}
        counts = {seen[wnid] for wnid in labels}
        if counts == {0} or len(counts) > 1:
            raise ValueError(
                f"Expected as many images of every class in {split}/ of {archive}. Received: "
                f"from {min(counts)} to {max(counts)} images a class. Get the archive again."
            )


def find_archive(manual_dir: Path) -> Path:
    """Returns the archive, or the folder it was unpacked to, in the manual folder.

    Raises:
        MissingDataError: if there is none.
    """
    for pattern in ARCHIVES:
        if found := sorted(manual_dir.glob(pattern)):
            return found[0]
    raise MissingDataError(
        f"Tiny ImageNet is missing. Expected a folder {TOP} or an archive of it. "
        f"Received: manual_dir={manual_dir}, which has none. {INSTRUCTIONS}"
    )


def _png(name, contents):
    try:
        pixels = read_image(io.BytesIO(contents), SHAPE)
    except ValueError as error:
        raise ValueError(f"Expected an image. Received: {name}. Get the archive again.") from error
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", compress_level=1)
    encoded.seek(0)
    return encoded
