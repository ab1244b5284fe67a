"""Conversion of the models of `keras.applications` that have batch normalization.

One of them always; all of them with `pytest -m slow tests/brn/test_conversion_applications.py`
(TensorFlow, many minutes): statistics are random, so that agreement says something.
"""

import keras
import pytest
from keras import applications
from normalized_models import assert_predicts_alike, inputs_of, randomize

import brn

KERAS = keras.layers.BatchNormalization

SIZES = {
    "ConvNeXt": None,  # layer normalization
    "VGG": None,  # no normalization
    "DenseNet": 32,
    "EfficientNet": 32,
    "InceptionResNet": 75,
    "Inception": 75,
    "MobileNetV3": 32,
    "MobileNet": 32,
    "NASNet": 32,
    "ResNet": 32,
    "Xception": 71,
}
"""The smallest images that a family takes."""


def families():
    names = [
        name
        for name in sorted(vars(applications))
        if name[0].isupper() and callable(getattr(applications, name))
    ]
    for name in names:
        size = next(size for prefix, size in SIZES.items() if name.startswith(prefix))
        if size is not None:
            yield name, size


def check(name, size):
    model = getattr(applications, name)(
        weights=None, include_top=False, input_shape=(size, size, 3), pooling="avg"
    )
    randomize(model)
    (x,) = inputs_of(model, batch=2)
    found = [layer for layer in model._flatten_layers() if isinstance(layer, KERAS)]
    assert found
    converted = brn.convert(model)
    assert not [layer for layer in converted._flatten_layers() if isinstance(layer, KERAS)]
    assert [layer.name for layer in converted.layers] == [layer.name for layer in model.layers]
    assert_predicts_alike(model, converted, x, rtol=1e-4)
    back = brn.convert(converted, KERAS)
    assert_predicts_alike(model, back, x, rtol=1e-4)
    assert [weight.path for weight in back.weights] == [weight.path for weight in model.weights]


@pytest.mark.any_backend
def test_a_small_application():
    check("MobileNetV3Small", 32)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), list(families()))
def test_every_application(name, size):
    check(name, size)
