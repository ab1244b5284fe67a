"""A folder of images, `train/<class>/<image>` and `validation/<class>/<image>`, as it comes.

Every file is read once, when the folder is first opened at a size. What is not a readable image is
left out, and so is a class that then has no image to train or to validate on; the copy keeps the
list of them with the reasons.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.data.splits import (
    Encoded,
    MissingDataError,
    Source,
    left_out_of,
    read_image,
    stored,
)

VALIDATION_NAMES = ("validation", "val", "test")
"""Names of the split, or folder, to evaluate on; the first one that exists is taken."""


def load_folder(
    name: str, path: Path, image_size: int, copy_named: Callable[[str], Path]
) -> Source:
    """Opens a folder of images.

    Args:
        name: of the source.
        path: the folder.
        image_size: side of the square images given.
        copy_named: where the copy of this name is, or will be.

    Raises:
        MissingDataError: if there is no folder `train` or none to validate on.
        ValueError: if a class with images has a folder in only one of the two, or no class has
            images in both.
    """
    path = path.expanduser()
    validation = next((part for part in VALIDATION_NAMES if (path / part).is_dir()), None)
    if validation is None or not (path / "train").is_dir():
        raise MissingDataError(
            f"The folder of images is incomplete. Expected the folders train and one of "
            f"{VALIDATION_NAMES}, with a subfolder for each class. Received: path={path}. "
            "Put images into <path>/train/<class>/ and <path>/validation/<class>/."
        )
    folders = {"train": path / "train", "validation": path / validation}
    files = {split: _class_files(folder) for split, folder in folders.items()}
    different = {
        label
        for split, other in (("train", "validation"), ("validation", "train"))
        for label in files[split]
        if files[split][label] and label not in files[other]
    }
    if different:
        raise ValueError(
            f"Expected the same classes in train and {validation}. Received: path={path}, with "
            f"classes {sorted(different)} in only one of them. Add or remove these folders."
        )
    # The copy belongs to these very files: others, or changed ones, get a new copy.
    fingerprint = hashlib.sha256(f"checked {path.resolve()}".encode())
    for file in _all_files(files):
        status = file.stat()
        fingerprint.update(f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    copy = copy_named(f"folder-{fingerprint.hexdigest()[:16]}")
    shape = (image_size, image_size, 3)

    def open_encoded():
        left_out = left_out_of(copy)
        if left_out is None:
            left_out = _unreadable(_all_files(files), path, shape)
        return _encoded(files, left_out, path, shape)

    return stored(copy, name, open_encoded)


def _class_files(split):
    """Returns the files of each class: every file below its folder but hidden ones."""
    return {
        folder.name: [
            file
            for file in sorted(folder.rglob("*"))
            if file.is_file() and not file.name.startswith(".")
        ]
        for folder in sorted(split.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }


def _all_files(files):
    return [file for classes in files.values() for some in classes.values() for file in some]


def _unreadable(files, path, shape):
    """Reads every image; returns those that cannot be read, below the path, with the reason."""

    def reason(file):
        try:
            read_image(file, shape)
        except ValueError as error:
            return str(error.__cause__)

    with ThreadPoolExecutor() as threads:
        reasons = zip(files, threads.map(reason, files), strict=True)
        return {str(file.relative_to(path)): why for file, why in reasons if why}


def _encoded(files, left_out, path, shape):
    """Returns the folder without what is left out, and without classes that then lack images."""
    left_out = dict(left_out)
    kept = {
        split: {
            label: [file for file in some if str(file.relative_to(path)) not in left_out]
            for label, some in classes.items()
        }
        for split, classes in files.items()
    }
    names = sorted({*kept["train"], *kept["validation"]})
    whole = [name for name in names if all(classes.get(name) for classes in kept.values())]
    for name in sorted({*names} - {*whole}):
        lacking = [split for split, classes in kept.items() if not classes.get(name)]
        left_out[f"class {name}"] = f"no image in {' and '.join(lacking)}"
    if not whole:
        raise ValueError(
            f"Expected one or more class folders with images. Received: path={path}, with "
            f"{len(names)} class folders and {len(_all_files(kept))} images. Add images."
        )
    records = {
        split: [(file, label) for label, name in enumerate(whole) for file in classes[name]]
        for split, classes in kept.items()
    }
    return Encoded(tuple(whole), shape, **records, left_out=left_out)
