import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow_datasets")

from experiments.data import omniglot_drawings
from experiments.data.load import load, prepare
from experiments.data.splits import MissingDataError

pytestmark = pytest.mark.any_backend

CHARACTERS = {
    "images_background": ("Bengali/character01", "Bengali/character02", "Greek/character01"),
    "images_evaluation": ("Aurek/character01",),
}


def drawing(character, number):
    """White paper with ink in one column, which says the character, and one row, the drawing."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[:, 10 * character] = 0
    pixels[5 * (number - 1)] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(file, "PNG")
    return file.getvalue()


def archive_files(part, drawings=range(1, 21)):
    names = sum(CHARACTERS.values(), ())
    return {
        f"{part}/{name}/0001_{number:02}.png": drawing(names.index(name), number)
        for name in CHARACTERS[part]
        for number in drawings
    }


def write_folders(manual_dir, contents):
    for name, data in contents.items():
        path = manual_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_zips(manual_dir, contents):
    for part in {name.split("/")[0] for name in contents}:
        with zipfile.ZipFile(manual_dir / f"{part}.zip", "w") as packed:
            for name, data in contents.items():
                if name.startswith(part):
                    packed.writestr(name, data)


def write_tar(manual_dir, contents):
    with tarfile.open(manual_dir / "omniglot.tar.xz", "w:xz") as packed:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "manual").mkdir()
    return tmp_path / "data", tmp_path / "manual"


@pytest.mark.parametrize("write", [write_folders, write_zips, write_tar])
def test_a_class_is_a_character_and_its_drawings_are_split(folders, write):
    data_dir, manual_dir = folders
    write(manual_dir, archive_files("images_background"))
    source = prepare("omniglot_drawings", data_dir, manual_dir)
    assert source.class_names == CHARACTERS["images_background"]
    assert source.image_shape == (105, 105, 1)
    for split, numbers in ((source.train, range(1, 17)), (source.validation, range(17, 21))):
        images = split.images(np.arange(len(split)))[..., 0]
        seen = set()
        for image, label in zip(images, split.labels, strict=True):
            column = np.flatnonzero((image == 255).all(axis=0))
            row = np.flatnonzero((image == 255).all(axis=1))
            assert column.tolist() == [10 * label]  # ink is white
            seen.add((int(label), row.item() // 5 + 1))
        assert seen == {(label, number) for label in range(3) for number in numbers}


def test_all_characters_are_the_background_set_and_then_the_others(folders):
    data_dir, manual_dir = folders
    for part in CHARACTERS:
        write_zips(manual_dir, archive_files(part))
    source = prepare("omniglot_drawings/all", data_dir, manual_dir, image_size=28)
    assert source.class_names == sum(CHARACTERS.values(), ())
    assert source.image_shape == (28, 28, 1)
    assert load("omniglot_drawings/all", data_dir, image_size=28).classes == 4


def test_a_missing_part_is_named_with_what_to_do(folders):
    data_dir, manual_dir = folders
    write_zips(manual_dir, archive_files("images_background"))
    with pytest.raises(MissingDataError, match=r"images_evaluation\.zip.*manual_dir=.*Put"):
        prepare("omniglot_drawings/all", data_dir, manual_dir)


def test_a_missing_drawing_is_named(folders):
    data_dir, manual_dir = folders
    write_zips(manual_dir, archive_files("images_background", range(1, 20)))
    with pytest.raises(ValueError, match=r"Expected drawings 1 to 20.*'Bengali/character01': \["):
        prepare("omniglot_drawings", data_dir, manual_dir)


def test_the_set_of_tfds_is_another_and_goes_by_its_own_name(tmp_path):
    with pytest.raises(MissingDataError, match="prepare --dataset omniglot --data-dir"):
        load("omniglot", tmp_path, image_size=28)


def test_ink_is_what_was_dark():
    pixels = omniglot_drawings._ink(drawing(0, 1))
    assert pixels.dtype == np.uint8
    assert pixels[0, 0, 0] == 255
    assert pixels[50, 50, 0] == 0
