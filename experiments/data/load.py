"""Data sets by name: digits, Tiny ImageNet, any TFDS image classification, a folder of images.

    digits                  1,797 images of 8x8 that come with scikit-learn
    digits:2, digits:3      numbers of two or three digits, 100 or 1,000 classes
    omniglot_drawings       964 handwritten characters, 16 + 4 drawings of each, 105x105, grayscale;
                            omniglot_drawings/all has 1,623, omniglot_drawings/first_400 fewer
    tiny_imagenet           200 classes of ImageNet, 100,000 + 10,000 images of 32x32;
                            tiny_imagenet/64x64 has them at 64x64
    cifar10, imagenet_resized/32x32, imagenet2012, ...
                            any name of TFDS with images and labels
    folder:<path>           train/<class>/<image> and validation/<class>/<image> below a path;
                            what is no image is left out, and `prepare` says what and why

`load` gives a `Source`: all labels, and images by index, so that one sampler serves all data sets.
It never uses the network. What has to be fetched or converted first, `prepare` does, or

    python -m experiments prepare --dataset tiny_imagenet --manual-dir DIR

A data set of one's own is a module of this package that is named after it and has a TFDS builder.

TFDS's data lie in `data_dir`, else in `$TFDS_DATA_DIR`, else in `~/tensorflow_datasets`. Its folder
`decoded/` has the copies made for reading by index: of images of up to 64x64 all pixels (338 MB
for Tiny ImageNet), of larger ones the labels. A copy can be deleted at any time. With a copy, small
images are read without TensorFlow or TFDS installed; without these, `prepare` makes that of Tiny
ImageNet from the archive itself.
"""

import dataclasses
import importlib
import importlib.util
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.digits import digits
from experiments.data.folder import VALIDATION_NAMES, load_folder
from experiments.data.splits import Encoded, MissingDataError, Source, stored

FOLDER_IMAGE_SIZE = 32


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
        size = image_size or FOLDER_IMAGE_SIZE
        return load_folder(name, Path(rest), size, lambda copy: _copy(data_dir, copy, size))
    return _load_tfds(name, data_dir, image_size)


def prepare(
    name: str,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
    *,
    image_size: int | None = None,
    strict: bool = False,
) -> Source:
    """Fetches or converts a data set, so that `load` finds it; does nothing where it is there.

    Args:
        name: as in `load`.
        data_dir: as in `load`.
        manual_dir: folder with archives that TFDS does not download itself, by default
            `<data_dir>/downloads/manual`.
        image_size: as in `load`.
        strict: whether a folder must hold nothing that has to be left out.

    Returns:
        The source.

    Raises:
        MissingDataError: if an archive has to be put into `manual_dir` first.
        ValueError: as in `load`, and if something is left out and `strict` is true.
    """
    if name.partition(":")[0] in ("digits", "folder"):
        source = load(name, data_dir, image_size=image_size)
        if strict and source.left_out:
            raise ValueError(
                f"Expected nothing but readable images in {name}. Received: "
                + "".join(f"\n  {file}: {why}" for file, why in source.left_out.items())
                + "\nRepair or remove these, or leave out strict."
            )
        return source
    data_dir = _data_dir(data_dir)
    if importlib.util.find_spec("tensorflow_datasets") is None and (
        module := _own(name, "_archive")
    ):
        config = name.partition("/")[2]
        manual_dir = Path(manual_dir or data_dir / "downloads" / "manual").expanduser()
        copy = _copy(data_dir, name, image_size)
        return stored(copy, name, lambda: _resized(module.read(manual_dir, config), image_size))
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


def _own(name, ending=""):
    """Returns this package's module of a data set, if it has one."""
    module = re.split("[:/]", name)[0] + ending
    if module.isidentifier() and importlib.util.find_spec(f"experiments.data.{module}"):
        return importlib.import_module(f"experiments.data.{module}")
    return None


def _resized(encoded, image_size):
    """Returns a data set whose images are brought to another size, if one is given."""
    if image_size is None:
        return encoded
    shape = (image_size, image_size, encoded.image_shape[2])
    return dataclasses.replace(encoded, image_shape=shape)


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
    _own(name)  # registers its builder
    try:
        return tfds, tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            'Expected "digits", "digits:2", "digits:3", "omniglot_drawings", "tiny_imagenet", '
            f'"folder:<path>" or a name that TFDS knows. Received: name={name!r}.'
        ) from error
