"""Tiny ImageNet's public archive, read without TFDS: 200 classes, 100,000 + 10,000 images.

Read are `train/<wnid>/images/*.JPEG`, `val/images/*.JPEG`, `val/val_annotations.txt`, `wnids.txt`
and `words.txt`. Labels are in the order of `wnids.txt` and named as in "n02124075 Egyptian cat".
The archive's test images have no labels and are left out.
"""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.data.archives import files
from experiments.data.splits import Encoded, MissingDataError

TOP = "tiny-imagenet-200"
SIZES = {"32x32": 32, "64x64": 64}
"""Configuration -> side of its images; the first is the default."""
ARCHIVES = (TOP, f"{TOP}.zip", f"{TOP}*.zip", f"{TOP}*.tar*")
"""What is looked for in the manual folder; the first match is taken."""

INSTRUCTIONS = f"""\
Put http://cs231n.stanford.edu/{TOP}.zip into the manual folder, as it is or unpacked. A copy of it
with images of 32x32 in the same layout does as well: a folder {TOP}, or {TOP}*.zip, or
{TOP}*.tar.xz (or another compression of tar), with everything under {TOP}/."""


@dataclass(frozen=True)
class _Examples:
    """Encoded images in memory: 0.1 GB at 32x32, 0.3 GB at 64x64."""

    contents: list[bytes]
    labels: list[int]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return io.BytesIO(self.contents[index]), self.labels[index]


def read(manual_dir: Path, config: str = "") -> Encoded:
    """Reads the archive in a manual folder.

    Args:
        manual_dir: the folder.
        config: one of `SIZES`, by default the first.

    Raises:
        MissingDataError: if there is none.
        ValueError: if it is damaged, or for another configuration.
    """
    if (config or "32x32") not in SIZES:
        raise ValueError(
            f"Expected a configuration of Tiny ImageNet, {', '.join(SIZES)}. Received: {config}."
        )
    side = SIZES[config or "32x32"]
    archive = Archive(find_archive(Path(manual_dir)))
    splits = {}
    for split, folder in (("train", "train"), ("validation", "val")):
        found = [(contents, label) for _, contents, label in archive.examples(folder)]
        splits[split] = _Examples(*map(list, zip(*found, strict=True)))
    return Encoded(archive.class_names, (side, side, 3), **splits)


class Archive:
    """The archive, or the folder it was unpacked to.

    Args:
        path: of it.

    Attributes:
        class_names: name of each label.

    Raises:
        ValueError: if a text is missing in it.
    """

    def __init__(self, path: Path):
        self.path = path
        needed = ("wnids.txt", "words.txt", "val/val_annotations.txt")
        texts = {name: contents.decode() for name, contents in files(path, TOP) if name in needed}
        for name in needed:
            if name not in texts:
                raise ValueError(
                    f"Expected {TOP}/{name} in the archive. Received: {path}, which has none. "
                    "Get the archive again."
                )
        wnids = texts["wnids.txt"].split()
        words = dict(line.split("\t", 1) for line in texts["words.txt"].splitlines() if line)
        self.class_names = tuple(f"{wnid} {words[wnid]}" for wnid in wnids)
        self._labels = {wnid: label for label, wnid in enumerate(wnids)}
        self._annotations = dict(
            line.split("\t")[:2] for line in texts["val/val_annotations.txt"].splitlines() if line
        )

    def examples(self, folder: str) -> Iterator[tuple[str, bytes, int]]:
        """Yields name, contents and label of each image of a folder, "train" or "val".

        Raises:
            ValueError: if an image has no class, or classes differ in number.
        """
        seen = Counter()
        for name, contents in files(self.path, TOP):
            parts = name.split("/")
            if parts[0] != folder or parts[-2] != "images":
                continue
            wnid = parts[1] if folder == "train" else self._annotations.get(parts[-1])
            if wnid not in self._labels:
                raise ValueError(
                    f"Expected a class of wnids.txt for every image. Received: {wnid} for {name} "
                    f"in {self.path}. Get the archive again."
                )
            seen[wnid] += 1
            yield name, contents, self._labels[wnid]
        counts = {seen[wnid] for wnid in self._labels}
        if counts == {0} or len(counts) > 1:
            raise ValueError(
                f"Expected as many images of every class in {folder}/ of {self.path}. Received: "
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
