import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data.load import load, prepare
from experiments.data.splits import MissingDataError

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[2]


def run_python(program, *arguments):
    """Run a program in a fresh process; what it prints."""
    finished = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_importing_the_data_modules_loads_no_framework():
    program = """
import sys
import experiments.data.load, experiments.data.sampling, experiments.data.augmentation
heavy = {"tensorflow", "tensorflow_datasets", "keras", "jax", "torch", "sklearn"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run_python(program) == "[]\n"


class TestDigits:
    @pytest.mark.parametrize(
        ("name", "classes"),
        [("digits", 10), ("digits:1", 10), ("digits:2", 100), ("digits:3", 1000)],
    )
    def test_by_name(self, name, classes):
        source = load(name)
        assert (source.name, source.classes) == (name, classes)

    def test_need_no_preparation(self):
        assert len(prepare("digits").train) == 1438

    @pytest.mark.parametrize("name", ["digits:4", "digits:two", "digits:"])
    def test_refuse_other_names(self, name):
        with pytest.raises(ValueError, match=r"Received: (length=4|name='digits:(two)?')"):
            load(name)

    def test_have_one_size(self):
        with pytest.raises(ValueError, match="Received: image_size=16"):
            load("digits", image_size=16)


@pytest.fixture
def folder(tmp_path):
    """Images of 4x4: three cats and two dogs to train on, one of each to validate on."""
    root = tmp_path / "pets"
    for split, number in {"train/cat": 3, "train/dog": 2, "test/cat": 1, "test/dog": 1}.items():
        (root / split).mkdir(parents=True)
        for index in range(number):
            level = 100 * (split.endswith("dog")) + 10 * index
            Image.new("RGB", (4, 4), (level, 0, 0)).save(root / split / f"{index}.png")
    return root


class TestFolder:
    def test_classes_are_subfolders(self, folder, tmp_path):
        (folder / "train" / "cat" / ".DS_Store").write_text("not an image")
        source = load(f"folder:{folder}", tmp_path / "data", image_size=2)
        assert source.class_names == ("cat", "dog")
        assert source.image_shape == (2, 2, 3)
        np.testing.assert_array_equal(source.train.labels, [0, 0, 0, 1, 1])
        np.testing.assert_array_equal(source.validation.labels, [0, 1])
        images = source.train.images(np.arange(5))
        np.testing.assert_array_equal(images[:, 1, 1, 0], [0, 10, 20, 100, 110])

    def test_size_is_32_by_default(self, folder, tmp_path):
        assert load(f"folder:{folder}", tmp_path / "data").image_shape == (32, 32, 3)

    def test_large_images_are_read_from_their_files(self, folder, tmp_path):
        source = prepare(f"folder:{folder}", tmp_path / "data", image_size=80)
        assert source.train.images(np.array([4])).shape == (1, 80, 80, 3)
        assert source.train.images(np.array([4]))[0, 0, 0, 0] == 110

    @pytest.mark.parametrize("sign", ["size", "time"])
    def test_changed_files_are_read_anew(self, folder, tmp_path, sign):
        load(f"folder:{folder}", tmp_path / "data")
        file = folder / "train" / "cat" / "1.png"
        before = file.stat()
        Image.new("RGB", (4, 4) if sign == "time" else (50, 50), (200, 0, 0)).save(file)
        later = 0 if sign == "size" else 10**9
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + later))
        images = load(f"folder:{folder}", tmp_path / "data").train.images(np.arange(3))
        np.testing.assert_array_equal(images[:, 0, 0, 0], [0, 200, 20])

    def test_missing(self, tmp_path):
        with pytest.raises(MissingDataError, match=r"train and one of .* Received: path=.*nothing"):
            load(f"folder:{tmp_path / 'nothing'}")

    def test_without_images_to_validate_on(self, folder):
        (folder / "test").rename(folder / "holdout")
        with pytest.raises(MissingDataError, match="'validation', 'val', 'test'"):
            load(f"folder:{folder}")

    def test_different_classes(self, folder):
        (folder / "test" / "dog").rename(folder / "test" / "wolf")
        with pytest.raises(ValueError, match=r"classes \['dog', 'wolf'\] in only one"):
            load(f"folder:{folder}")

    def test_empty_class(self, folder):
        (folder / "train" / "emu").mkdir()
        with pytest.raises(ValueError, match=r"3 class folders, of which empty: \['emu'\]"):
            load(f"folder:{folder}")

    def test_no_classes(self, tmp_path):
        for split in ("train", "val"):
            (tmp_path / split).mkdir()
        with pytest.raises(ValueError, match="Received: 0 class folders"):
            load(f"folder:{tmp_path}")

    def test_unreadable_image(self, folder, tmp_path):
        (folder / "train" / "dog" / "notes.txt").write_text("not an image")
        with pytest.raises(ValueError, match=r"Received: .*notes\.txt"):
            load(f"folder:{folder}", tmp_path / "data")


def test_refuses_a_size_below_one(folder):
    with pytest.raises(ValueError, match="Received: image_size=0"):
        load(f"folder:{folder}", image_size=0)


@pytest.fixture(scope="module")
def tfds():
    """TFDS with builders of tiny data sets: photos of any size, squares of 8x8, and words."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def features(**kinds):
        return tfds.features.FeaturesDict(kinds)

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None  # nothing is downloaded, so there are no checksums to look for
        splits = ("train", "test")

        def _info(self):
            label = tfds.features.ClassLabel(names=["red", "green"])
            return tfds.core.DatasetInfo(
                builder=self, features=features(image=self.image(), label=label)
            )

        def _split_generators(self, dl_manager):
            numbers = {"train": 6, "validation": 4, "test": 4}
            return {split: self._generate_examples(numbers[split]) for split in self.splits}

        def _generate_examples(self, number):
            for index in range(number):
                yield index, self.example(index)

        def image(self):
            return tfds.features.Image(shape=(8, 8, 3), encoding_format="png")

        def example(self, index):
            color = (200 + index, 0, 0) if index % 2 == 0 else (0, 200 + index, 0)
            file = _png(Image.new("RGB", self.size(index), color))
            return {"image": file, "label": index % 2}

        def size(self, index):
            return (8, 8)

    class Squares(Tiny):
        name = "squares"

    class Photos(Tiny):
        name = "photos"
        splits = ("train", "validation", "test")
        MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask for photos.zip."

        def image(self):
            return tfds.features.Image(encoding_format="png")

        def size(self, index):
            return (8 + index, 9)

    class Untested(Tiny):
        name = "untested"
        splits = ("train",)

    class Words(Tiny):
        name = "words"

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features(text=tfds.features.Text()))

        def example(self, index):
            return {"text": "word"}

    return tfds


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    file.seek(0)
    return file


@pytest.fixture(scope="module")
def squares(tfds, tmp_path_factory):
    """The data folder in which the squares are prepared."""
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare("squares", data_dir)
    return data_dir


class TestTfds:
    def test_prepared_data_are_read_by_index(self, squares):
        source = load("squares", squares)
        assert (source.name, source.class_names) == ("squares", ("red", "green"))
        assert source.image_shape == (8, 8, 3)
        assert (len(source.train), len(source.validation)) == (6, 4)
        images = source.train.images(np.arange(6))
        # An example's colour says its number, whose parity is its label.
        numbers = images[:, 0, 0].max(1).astype(int) - 200
        assert sorted(numbers) == list(range(6))
        np.testing.assert_array_equal(source.train.labels, numbers % 2)
        np.testing.assert_array_equal(images[:, 3, 3].argmax(1), numbers % 2)

    def test_other_size(self, squares):
        images = load("squares", squares, image_size=4).train.images(np.arange(6))
        assert images.shape == (6, 4, 4, 3)

    def test_folder_comes_from_the_environment(self, squares, monkeypatch):
        monkeypatch.setenv("TFDS_DATA_DIR", str(squares))
        assert len(load("squares").train) == 6

    def test_the_copy_needs_neither_tensorflow_nor_tfds(self, squares):
        load("squares", squares)
        program = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from experiments.data.load import load, MissingDataError
print(load("squares", sys.argv[1]).train.images([0, 1]).shape)
try:
    load("other", sys.argv[1])
except MissingDataError as error:
    print(error)
"""
        shape, error = run_python(program, squares).splitlines()
        assert shape == "(2, 8, 8, 3)"
        assert "'other' has no decoded copy yet" in error
        assert "pip install tensorflow tensorflow-datasets" in error

    def test_images_of_many_sizes_need_one(self, tfds, tmp_path):
        manual_dir = tmp_path / "manual"
        manual_dir.mkdir()
        with pytest.raises(MissingDataError, match=r"manual_dir=.* Ask for photos\.zip\."):
            prepare("photos", tmp_path, manual_dir)
        (manual_dir / "photos.zip").touch()
        source = prepare("photos", tmp_path, manual_dir, image_size=6)
        assert source.image_shape == (6, 6, 3)
        assert len(source.validation) == 4
        with pytest.raises(ValueError, match="Received: image_size=None"):
            load("photos", tmp_path)

    def test_missing(self, tfds, tmp_path):
        command = "prepare --dataset squares --data-dir"
        with pytest.raises(MissingDataError, match=f"Received: data_dir=.*{command} .*$") as caught:
            load("squares", tmp_path)
        assert str(tmp_path / "squares" / "1.0.0") in str(caught.value)
        with pytest.raises(MissingDataError, match="--manual-dir DIR"):
            load("photos", tmp_path, image_size=6)

    def test_unknown_name(self, tfds, tmp_path):
        with pytest.raises(ValueError, match="Received: name='no_such_data'"):
            load("no_such_data", tmp_path)

    def test_without_images(self, tfds, tmp_path):
        with pytest.raises(ValueError, match=r"one class label each\. Received: name='words'"):
            prepare("words", tmp_path)

    def test_without_a_split_to_validate_on(self, tfds, tmp_path):
        with pytest.raises(ValueError, match=r"Received: name='untested' with splits \['train'\]"):
            prepare("untested", tmp_path)
