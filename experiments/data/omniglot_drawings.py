"""Omniglot as a TFDS data set of characters: 964 classes, 16 + 4 drawings of each.

Omniglot (Lake, Salakhutdinov & Tenenbaum 2015) has 1,623 characters of 50 alphabets, each drawn by
20 people. TFDS's own `omniglot` splits it by alphabet, for learning from few examples; here a class
is a character, and its drawings are split. Importing this module registers the builder: afterwards
`tfds.builder("omniglot_drawings")` works like any other name. Preparing it needs no network.
"""

import collections
import io
import re
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.archives import files
from experiments.data.builders import describe
from experiments.data.splits import MissingDataError, read_image

SHAPE = (105, 105, 1)
DRAWINGS = 20
TRAINING_DRAWINGS = 16
"""Drawings 01 to 16 of a character are trained on, 17 to 20 validate."""

BACKGROUND, EVALUATION = "images_background", "images_evaluation"
INSTRUCTIONS = f"""\
Put {BACKGROUND}.zip of https://github.com/brendenlake/omniglot (folder python), for all 1,623
characters {EVALUATION}.zip too, into the manual folder, as they are or unpacked. One archive with
both folders at its top, omniglot*.zip or omniglot*.tar*, does as well."""


class Config(tfds.core.BuilderConfig):
    """Which characters.

    Args:
        name: of the configuration.
        parts: folders of the archive.
        characters: how many of their characters, the first ones by alphabet; all by default.
    """

    def __init__(self, name, parts, characters=None):
        super().__init__(name=name, description=f"Omniglot, {name}", version="1.0.0")
        self.parts, self.characters = parts, characters


class OmniglotDrawings(tfds.core.GeneratorBasedBuilder):
    """Builds Omniglot, a class a character, from its public archives.

    Read are `images_background/<alphabet>/<character>/<number>_<drawing>.png` and the same under
    `images_evaluation`. Labels are in the order of the names "<alphabet>/<character>", those of
    the background set first. Images are one byte a pixel, 105x105, the ink 255 on 0, the reverse
    of the archive's, so that what augmentation fills in with black is paper.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Split by drawing, 16 + 4."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = (  # the first is the default
        Config("background", (BACKGROUND,)),
        Config("all", (BACKGROUND, EVALUATION)),
        Config("first_400", (BACKGROUND,), 400),
    )
    # Beside the code TFDS would look for checksums of downloads. There are none, and looking takes
    # importlib_resources, which TFDS 4.9.10 does not declare.
    code_path = None

    def _info(self):
        return describe(
            self,
            "Omniglot: handwritten characters, split by drawing.",
            SHAPE,
            "https://github.com/brendenlake/omniglot",
        )

    def _split_generators(self, dl_manager):
        characters = {}
        for part in self.builder_config.parts:
            archive = find_archive(Path(dl_manager.manual_dir), part)
            found = _characters(archive, part)
            characters |= {name: found[name] for name in sorted(found)}
        names = list(characters)[: self.builder_config.characters]
        self.info.features["label"].names = names
        chosen = [characters[name] for name in names]
        return {
            "train": _examples(chosen, range(1, TRAINING_DRAWINGS + 1)),
            "validation": _examples(chosen, range(TRAINING_DRAWINGS + 1, DRAWINGS + 1)),
        }

    def _generate_examples(self):
        raise NotImplementedError("The splits are generated as they are found.")


def find_archive(manual_dir: Path, part: str) -> Path:
    """Returns the archive of a part, or the folder it was unpacked to, in the manual folder.

    Raises:
        MissingDataError: if there is none.
    """
    for pattern in (part, f"{part}.zip", f"{part}.tar*", "omniglot*.zip", "omniglot*.tar*"):
        if found := sorted(manual_dir.glob(pattern)):
            return found[0]
    raise MissingDataError(
        f"Omniglot is missing. Expected {part}.zip, or a folder {part}. "
        f"Received: manual_dir={manual_dir}, which has none. {INSTRUCTIONS}"
    )


def _characters(archive, part):
    """Returns "<alphabet>/<character>" -> drawing -> contents of its file."""
    characters = collections.defaultdict(dict)
    for name, contents in files(archive, part):
        match = re.fullmatch(r"(.+/.+)/\d+_(\d+)\.png", name)
        if match:
            characters[match[1]][int(match[2])] = contents
    expected = set(range(1, DRAWINGS + 1))
    wrong = {name: sorted(d) for name, d in characters.items() if set(d) != expected}
    if wrong or not characters:
        raise ValueError(
            f"Expected drawings 1 to {DRAWINGS} of every character under {part}/ of {archive}. "
            f"Received: {len(characters)} characters, of which others: {wrong}. "
            "Get the archive again."
        )
    return characters


def _examples(characters, drawings):
    for label, of_character in enumerate(characters):
        for drawing in drawings:
            image = {"image": _ink(of_character[drawing]), "label": label}
            yield f"{label:04}_{drawing:02}", image


def _ink(contents):
    return np.uint8(255) - read_image(io.BytesIO(contents), SHAPE)
