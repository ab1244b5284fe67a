"""What the paper's scale asks of machines, counted, and how measured numbers are noted."""

import keras
import pandas as pd
import pytest

from experiments.speed import demand, measured

pytestmark = pytest.mark.any_backend


def test_multiplications_are_those_of_convolutions_and_products():
    inputs = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(5, (3, 1), strides=2, padding="same")(inputs)  # 4 x 3 positions
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dense(7)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    assert demand.multiply_adds(model) == 4 * 3 * 5 * (3 * 1 * 3) + 5 * 7


def test_the_image_that_is_decoded_is_as_large_as_imagenets_in_the_mean():
    assert 100e3 < len(demand.jpeg()) < 120e3


def test_a_measured_number_is_a_row_with_what_it_was_measured_with(tmp_path, capsys):
    path = tmp_path / "processes.csv"
    measured.note(None, "a step", "seconds", 0.5)
    assert not path.exists()
    measured.note(path, "a step", "seconds", 0.123, "s", arm="bn-4", processes=2)
    measured.note(path, "a step", "seconds", 0.456, "s", arm="bn-4", processes=2)
    measured.note(path, "a step", "images", 1600)
    assert capsys.readouterr().out.splitlines() == [
        "a step, seconds: 0.5 ",
        "a step, bn-4, 2 process(es), seconds: 0.12 s",
        "a step, bn-4, 2 process(es), seconds: 0.46 s",
        "a step, images: 1600 ",
    ]
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert tuple(rows) == measured.COLUMNS
    assert rows.iloc[:, :6].to_numpy().tolist() == [
        ["a step", "bn-4", "2", "seconds", "0.46", "s"],
        ["a step", "", "", "images", "1600", ""],
    ]
    assert rows["made with"].str.startswith(f"Keras {keras.__version__} on ").all()
