"""Data sets by name: digits, Tiny ImageNet, any TFDS image classification, a folder of images.

    digits                  1,797 images of 8x8 that come with scikit-learn
    digits:2, digits:3      numbers of two or three digits, 100 or 1,000 classes
    omniglot_drawings       964 handwritten characters, 16 + 4 drawings of each, 105x105, grayscale;
                            omniglot_drawings/all has 1,623, omniglot_drawings/first_400 fewer
    tiny_imagenet           200 classes of ImageNet, 100,000 + 10,000 images of 32x32
    cifar10, imagenet_resized/32x32, imagenet2012, ...
                            any name of TFDS with images and labels
    folder:<path>           train/<class>/<image> and validation/<class>/<image> below a path

`load` gives a `Source`: all labels, and images by index, so that one sampler serves all data sets.
It never uses the network. What has to be fetched or converted first, `prepare` does, or

    python -m experiments prepare --dataset tiny_imagenet --manual-dir DIR

TFDS's data lie in `data_dir`, else in `$TFDS_DATA_DIR`, else in `~/tensorflow_datasets`. Its folder
`decoded/` has the copies made for reading by index: of images of up to 64x64 all pixels (338 MB
for Tiny ImageNet), of larger ones the labels. A copy can be deleted at any time. With a copy, small
images are read without TensorFlow or TFDS installed.
"""

import hashlib
import importlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.digits import digits
from experiments.data.splits import Encoded, MissingDataError, Source, stored

FOLDER_IMAGE_SIZE = 32
OWN_BUILDERS = {
    "omniglot_drawings": "experiments.data.omniglot",
    "tiny_imagenet": "experiments.data.tiny_imagenet",
}
"""The data sets with a TFDS builder of this repository."""
VALIDATION_NAMES = ("validation", "val", "test")
"""Names of the split, or folder, to evaluate on; the first one that exists is taken."""


def load(name: str, data_dir: str | Path | None = None, *, image_size: int | None = None) -> Source:
    """Opens a data set that is on this machine.

    Args:
        name: one of the names above.
        data_dir: where TFDS's data and the decoded copies lie; see above for the default.
        image_size: side of the square images given. By default 32 for a folder of images, and the
            data set's own size for a TFDS name. Images of another size are cut to a square about
            their centre and resized with a box filter.

    Returns:
        The source. Its validation split is TFDS's, or the folder's, "validation" or else "test".

    Raises:
        MissingDataError: if the data set is not there; the message has the command that gets it.
        ValueError: if the name or the size does not fit, or the data cannot be used.
    """
    kind, _, rest = name.partition(":")
    data_dir = _data_dir(data_dir)
    if image_size is not None and image_size < 1:
        raise ValueError(f"Expected image_size to be at least 1. Received: {image_size=}.")
    if kind == "digits":
        if image_size is not None:
            raise ValueError(f"Digits have one size. Received: {image_size=}. Leave it out.")
        return digits(_digits_length(name, rest), name)
    if kind == "folder":
        return _load_folder(name, Path(rest), data_dir, image_size or FOLDER_IMAGE_SIZE)
    return _load_tfds(name, data_dir, image_size)


def prepare(
    name: str,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
) -> Source:
    """Fetches or converts a data set, so that `load` finds it; does nothing where it is there.

    Args:
        name: as in `load`.
        data_dir: as in `load`.
        manual_dir: folder with archives that TFDS does not download itself, by default
            `<data_dir>/downloads/manual`.
        image_size: as in `load`.

    Returns:
        The source.

    Raises:
        MissingDataError: if an archive has to be put into `manual_dir` first.
        ValueError: as in `load`.
    """
    if name.partition(":")[0] in ("digits", "folder"):
        return load(name, data_dir, image_size=image_size)
    data_dir = _data_dir(data_dir)
    tfds, builder = _builder(name, data_dir)
    if not builder.is_prepared():
        manual_dir = Path(manual_dir or data_dir / "downloads" / "manual").expanduser()
        instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        if instructions and not (manual_dir.is_dir() and any(manual_dir.iterdir())):
            raise MissingDataError(
                f"The archive of {name!r} is missing. Expected it in the manual folder. Received: "
                f"manual_dir={manual_dir}, which is empty or does not exist. {instructions}"
            )
        builder.download_and_prepare(
            download_dir=str(data_dir / "downloads"),
            download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir)),
        )
    return load(name, data_dir, image_size=image_size)


def _data_dir(data_dir):
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _copy(data_dir, name, image_size):
    """Returns the folder of the decoded copy."""
    size = f"-{image_size}px" if image_size else ""
    return data_dir / "decoded" / (name.replace("/", "-").replace(":", "-") + size)


def _digits_length(name, rest):
    try:
        return int(rest) if name != "digits" else 1
    except ValueError:
        raise ValueError(
            f'Expected "digits", "digits:2" or "digits:3". Received: name={name!r}.'
        ) from None


# TFDS


def _load_tfds(name, data_dir, image_size):
    return stored(
        _copy(data_dir, name, image_size), name, lambda: _open_tfds(name, data_dir, image_size)
    )


def _open_tfds(name, data_dir, image_size):
    tfds, builder = _builder(name, data_dir)
    if not builder.is_prepared():
        raise MissingDataError(
            f"The data set {name!r} is not prepared. Expected it in {builder.data_path}. "
            f"Received: data_dir={data_dir}, which has none. Prepare it with: "
            f"python -m experiments prepare --dataset {name} --data-dir {data_dir}"
            + (" --manual-dir DIR" if builder.MANUAL_DOWNLOAD_INSTRUCTIONS else "")
        )
    image_key, label_key = builder.info.supervised_keys or ("image", "label")
    features = dict(builder.info.features.items())
    image, label = features.get(image_key), features.get(label_key)
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            "Expected a data set of images with one class label each. "
            f"Received: name={name!r} with features {features}."
        )
    validation = next((split for split in VALIDATION_NAMES if split in builder.info.splits), None)
    if validation is None or "train" not in builder.info.splits:
        raise ValueError(
            f"Expected a split train and one of {VALIDATION_NAMES}. "
            f"Received: name={name!r} with splits {list(builder.info.splits)}."
        )
    *size, channels = image.shape
    if image_size:
        size = [image_size, image_size]
    if None in size:
        raise ValueError(
            f"The images of {name!r} differ in size. Received: image_size=None. Give an image_size."
        )
    splits = {
        split: _TfdsRecords(
            builder.as_data_source(tfds_split, decoders={image_key: tfds.decode.SkipDecoding()}),
            image_key,
            label_key,
        )
        for split, tfds_split in {"train": "train", "validation": validation}.items()
    }
    return Encoded(tuple(label.names), (*size, channels), **splits)


@dataclass(frozen=True)
class _TfdsRecords:
    """Records of a TFDS data source whose images are left encoded."""

    examples: Any
    image_key: str
    label_key: str

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        example = self.examples[index]
        return io.BytesIO(example[self.image_key]), int(example[self.label_key])


def _builder(name, data_dir):
    """Returns TFDS, which is imported only where it is needed, and its builder of a data set."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise MissingDataError(
            f"The data set {name!r} has no decoded copy yet, and TFDS, which makes it, is not "
            f"installed. Received: data_dir={data_dir}. "
            "Install it: pip install tensorflow tensorflow-datasets"
        ) from error
    if module := OWN_BUILDERS.get(re.split("[:/]", name)[0]):
        importlib.import_module(module)  # registers it
    try:
        return tfds, tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            'Expected "digits", "digits:2", "digits:3", "omniglot_drawings", "tiny_imagenet", '
            f'"folder:<path>" or a name that TFDS knows. Received: name={name!r}.'
        ) from error


# A folder of images


def _load_folder(name, path, data_dir, image_size):
    path = path.expanduser()
    validation = next((part for part in VALIDATION_NAMES if (path / part).is_dir()), None)
    if validation is None or not (path / "train").is_dir():
        raise MissingDataError(
            f"The folder of images is incomplete. Expected the folders train and one of "
            f"{VALIDATION_NAMES}, with a subfolder for each class. Received: path={path}. "
            "Put images into <path>/train/<class>/ and <path>/validation/<class>/."
        )
    splits = {"train": _class_files(path / "train"), "validation": _class_files(path / validation)}
    class_names = tuple(splits["train"])
    if class_names != tuple(splits["validation"]):
        different = sorted(set(class_names) ^ set(splits["validation"]))
        raise ValueError(
            f"Expected the same classes in train and {validation}. Received: path={path}, with "
            f"classes {different} in only one of them. Add or remove these folders."
        )
    records = {
        split: [(file, label) for label, files in enumerate(classes.values()) for file in files]
        for split, classes in splits.items()
    }
    # The copy belongs to these very files: others, or changed ones, get a new copy.
    fingerprint = hashlib.sha256(str(path.resolve()).encode())
    for file, _ in records["train"] + records["validation"]:
        status = file.stat()
        fingerprint.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    copy = _copy(data_dir, f"folder-{fingerprint.hexdigest()[:16]}", image_size)
    encoded = Encoded(class_names, (image_size, image_size, 3), **records)
    return stored(copy, name, lambda: encoded)


def _class_files(split):
    """Returns the files of each class: every file below its folder but hidden ones."""
    classes = {
        folder.name: [
            file
            for file in sorted(folder.rglob("*"))
            if file.is_file() and not file.name.startswith(".")
        ]
        for folder in sorted(split.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    if not classes or not all(classes.values()):
        empty = [name for name, files in classes.items() if not files]
        raise ValueError(
            f"Expected one or more class folders with images in {split}. Received: "
            f"{len(classes)} class folders, of which empty: {empty}. Add images or remove them."
        )
    return classes
