import importlib.util
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow_datasets")

from experiments.data.archives import files
from experiments.data.load import load, prepare
from experiments.data.splits import MissingDataError
from experiments.data.tiny_imagenet_archive import TOP, find_archive

pytestmark = pytest.mark.any_backend

WNIDS = ("n02", "n01", "n03")
LEVELS = (40, 120, 200)
"""Gray level of every image of a class, which says its label even after JPEG."""


def jpeg(level, size, mode="RGB"):
    file = io.BytesIO()
    Image.new("L", (size, size), level).convert(mode).save(file, "JPEG", quality=95)
    return file.getvalue()


def archive_files(size):
    """A tiny archive: three classes, four training and two validation images of each."""
    contents = {
        "wnids.txt": "\n".join(WNIDS).encode(),
        "words.txt": b"n00\tentity\nn01\tgoldfish, Carassius auratus\nn02\tcat\nn03\treel\n",
        "test/images/test_0.JPEG": jpeg(0, size),
    }
    annotations = []
    for wnid, level in zip(WNIDS, LEVELS, strict=True):
        contents[f"train/{wnid}/{wnid}_boxes.txt"] = b"n01_0.JPEG\t0\t0\t1\t1\n"
        for index in range(4):
            image = jpeg(level, size, "L" if index == 3 else "RGB")
            contents[f"train/{wnid}/images/{wnid}_{index}.JPEG"] = image
        for _ in range(2):
            name = f"val_{len(annotations)}.JPEG"
            annotations.append(f"{name}\t{wnid}\t0\t32\t44\t62")
            contents[f"val/images/{name}"] = jpeg(level, size)
    contents["val/val_annotations.txt"] = "\n".join(annotations).encode()
    return contents


def write_folder(manual_dir, contents):
    for name, data in contents.items():
        path = manual_dir / TOP / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_zip(manual_dir, contents):
    with zipfile.ZipFile(manual_dir / f"{TOP}.zip", "w") as packed:
        packed.writestr(f"{TOP}/train/", b"")
        for name, data in contents.items():
            packed.writestr(f"{TOP}/{name}", data)
        packed.writestr("__MACOSX/wnids.txt", b"n99")


def write_tar(manual_dir, contents):
    with tarfile.open(manual_dir / f"{TOP}-32px.tar.xz", "w:xz") as packed:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"./{TOP}/{name}")
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))


WRITERS = {"folder": write_folder, "zip": write_zip, "tar": write_tar}


@pytest.fixture
def manual_dir(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("form", "size"), [("folder", 32), ("zip", 64), ("tar", 32)])
def test_prepares_every_form_of_the_archive(form, size, manual_dir, tmp_path):
    WRITERS[form](manual_dir, archive_files(size))
    prepare("tiny_imagenet", tmp_path, manual_dir)
    source = load("tiny_imagenet", tmp_path)
    assert source.class_names == ("n02 cat", "n01 goldfish, Carassius auratus", "n03 reel")
    assert source.image_shape == (32, 32, 3)
    for split, number in ((source.train, 4), (source.validation, 2)):
        np.testing.assert_array_equal(np.bincount(split.labels), [number] * 3)
        images = split.images(np.arange(len(split))).astype(int)
        levels = np.array(LEVELS)[split.labels]
        assert np.abs(images - levels[:, np.newaxis, np.newaxis, np.newaxis]).max() <= 2


@pytest.mark.parametrize("config", ["", "/64x64"])
def test_without_tfds_the_archive_gives_the_same_images(config, manual_dir, tmp_path, monkeypatch):
    write_zip(manual_dir, archive_files(64))
    name = f"tiny_imagenet{config}"
    expected = prepare(name, tmp_path / "with", manual_dir)
    monkeypatch.setattr(importlib.util, "find_spec", without("tensorflow_datasets"))
    found = prepare(name, tmp_path / "without", manual_dir)
    assert found.class_names == expected.class_names
    assert found.image_shape == expected.image_shape == ((64, 64, 3) if config else (32, 32, 3))
    for split in ("train", "validation"):
        there, here = getattr(expected, split), getattr(found, split)
        assert sorted(contents(there)) == sorted(contents(here))


def without(hidden):
    """`importlib.util.find_spec`, to which one module is missing."""
    real = importlib.util.find_spec
    return lambda name, *more: None if name == hidden else real(name, *more)


def contents(split):
    images = split.images(np.arange(len(split)))
    return [
        (int(label), image.tobytes()) for label, image in zip(split.labels, images, strict=True)
    ]


def test_finds_the_manual_folder_of_tfds(tmp_path):
    manual_dir = tmp_path / "downloads" / "manual"
    manual_dir.mkdir(parents=True)
    write_zip(manual_dir, archive_files(32))
    assert len(prepare("tiny_imagenet", tmp_path).train) == 12


@pytest.mark.parametrize("form", WRITERS)
def test_files_are_those_of_the_archive(form, manual_dir):
    contents = archive_files(32)
    WRITERS[form](manual_dir, contents)
    assert dict(files(find_archive(manual_dir), TOP)) == contents


def test_images_of_the_right_size_keep_their_pixels(manual_dir, tmp_path, rng):
    contents = archive_files(32)
    noise = Image.fromarray(rng.integers(256, size=(32, 32, 3)).astype(np.uint8))
    file = io.BytesIO()
    noise.save(file, "JPEG")
    contents["train/n03/images/n03_0.JPEG"] = file.getvalue()
    write_folder(manual_dir, contents)
    train = prepare("tiny_imagenet", tmp_path, manual_dir).train
    images = train.images(np.flatnonzero(train.labels == 2))
    with Image.open(file) as decoded:
        assert any(np.array_equal(image, np.asarray(decoded)) for image in images)


def test_missing_archive(manual_dir, tmp_path):
    with pytest.raises(MissingDataError, match=r"manual_dir=.*tiny-imagenet-200\.zip"):
        prepare("tiny_imagenet", tmp_path, manual_dir)
    (manual_dir / "another.zip").touch()
    with pytest.raises(MissingDataError, match=r"manual_dir=.*tiny-imagenet-200\.zip"):
        prepare("tiny_imagenet", tmp_path, manual_dir)


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        ({"words.txt": None}, r"words\.txt in the archive"),
        ({"train/n01/images/n01_2.JPEG": None}, "from 3 to 4 images a class"),
        ({"train/n01/images/n01_2.JPEG": b"text"}, r"Received: train/n01/images/n01_2\.JPEG"),
        ({"train/n09/images/n09_0.JPEG": jpeg(0, 32)}, "Received: n09 for train/n09"),
        ({"val/images/val_9.JPEG": jpeg(0, 32)}, "Received: None for val/images/val_9"),
    ],
)
def test_refuses_a_damaged_archive(damage, received, manual_dir, tmp_path):
    contents = archive_files(32) | damage
    write_folder(manual_dir, {name: data for name, data in contents.items() if data is not None})
    with pytest.raises(ValueError, match=received):
        prepare("tiny_imagenet", tmp_path, manual_dir)


def test_refuses_what_is_no_archive(manual_dir):
    path = manual_dir / f"{TOP}.zip"
    path.write_bytes(b"an interrupted download")
    with pytest.raises(ValueError, match=r"complete zip or tar file\. Received: .*\.zip"):
        list(files(find_archive(manual_dir), TOP))
