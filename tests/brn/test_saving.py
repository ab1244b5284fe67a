"""What is saved continues as if it had never stopped."""

import json

import keras
import numpy as np
import pytest
from harness import SHAPE, numpy, tensor

import brn
from brn.schedules import Ramp


def batches(rng, count):
    return [(rng.normal(2.0, 3.0, SHAPE), rng.normal(size=(6, 2, 3))) for _ in range(count)]


def a_model():
    """A schedule in the middle of its ramp, on its first and third training steps."""
    model = keras.Sequential(
        [
            keras.Input(SHAPE[1:]),
            brn.BatchRenormalization(
                momentum=0.8,
                r_max=Ramp(1, 3, begin=1, finish=6),
                d_max=Ramp(0, 5, begin=1, finish=6),
                microbatch_size=4,
                bias_correction=True,
            ),
            keras.layers.Dense(3),
            brn.BatchNormalization(momentum=0.8, microbatch_size=2),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=False)
    return model


def train(model, data):
    for x, y in data:
        model.train_on_batch(x.astype("float32"), y.astype("float32"))


def assert_equal_models(got, wanted):
    for value, expected in zip(got.variables, wanted.variables, strict=True):
        np.testing.assert_array_equal(numpy(value), numpy(expected), err_msg=value.path)
    optimizers = got.optimizer.variables, wanted.optimizer.variables
    for value, expected in zip(*optimizers, strict=True):
        np.testing.assert_array_equal(numpy(value), numpy(expected), err_msg=value.path)


def test_training_continues_after_loading(rng, tmp_path):
    """No `custom_objects`: importing `brn` is enough."""
    model, data = a_model(), batches(rng, 6)
    train(model, data[:3])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert int(numpy(loaded.layers[0].step)) == 3
    assert_equal_models(loaded, model)
    train(model, data[3:])
    train(loaded, data[3:])
    assert_equal_models(loaded, model)
    assert int(numpy(loaded.layers[0].step)) == 6
    r_max, d_max = loaded.layers[0].clipping_bounds()
    assert (float(numpy(r_max)), float(numpy(d_max))) == (3, 5)


def test_a_loaded_model_predicts_the_same(rng, tmp_path):
    model = a_model()
    train(model, batches(rng, 2))
    model.save(tmp_path / "model.keras")
    x = tensor(rng.normal(size=SHAPE))
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))


def test_weights_alone(rng, tmp_path):
    model = a_model()
    other = keras.models.clone_model(model)
    train(model, batches(rng, 2))
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    for value, expected in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(numpy(value), numpy(expected), err_msg=value.path)


def test_clones_have_the_arguments_and_not_the_weights(rng):
    model = a_model()
    train(model, batches(rng, 1))
    clone = keras.models.clone_model(model)
    for layer, copied in zip(model.layers, clone.layers, strict=True):
        assert copied is not layer
        assert copied.get_config() == layer.get_config()
    assert int(numpy(model.layers[0].step)) == 1
    assert int(numpy(clone.layers[0].step)) == 0
    clone.set_weights(model.get_weights())
    x = tensor(rng.normal(size=SHAPE))
    np.testing.assert_array_equal(numpy(clone(x)), numpy(model(x)))


def test_models_as_json():
    model = a_model()
    revived = keras.models.model_from_json(model.to_json())
    assert json.loads(revived.to_json())["config"] == json.loads(model.to_json())["config"]


@keras.saving.register_keras_serializable(package="brn_tests")
class Stairs(brn.schedules.ClipSchedule):
    """A schedule of a user's."""

    def __init__(self, height=2.0):
        self.height = height

    def __call__(self, step):
        return self.height + keras.ops.floor(keras.ops.cast(step, "float32") / 2)

    def get_config(self):
        return {"height": self.height}


@pytest.mark.parametrize("bound", [3.0, float("inf"), "paper", Stairs(1.5)], ids=repr)
def test_bounds_of_every_kind(tmp_path, bound):
    model = keras.Sequential(
        [keras.Input((3,)), brn.BatchRenormalization(r_max=bound, d_max=bound)]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    layer = model.layers[0]
    assert loaded.get_config() == layer.get_config()
    for step in (0, 3, 30_000):
        layer.step.assign(step)
        loaded.step.assign(step)
        assert [*map(numpy, loaded.clipping_bounds())] == [*map(numpy, layer.clipping_bounds())]


class Unregistered(brn.schedules.ClipSchedule):
    """A schedule that Keras does not know."""

    def __call__(self, step):
        return 2.0 + 0.0 * brn.schedules.as_float(step)


@pytest.mark.parametrize("name", ["r_max", "d_max"])
def test_a_schedule_that_is_not_registered(tmp_path, name):
    layer = brn.BatchRenormalization(**{name: Unregistered()})
    keras.Sequential([keras.Input((3,)), layer]).save(tmp_path / "model.keras")
    with pytest.raises(
        ValueError, match=r"(?s)register_keras_serializable.*custom_objects.*'class_name': 'Unreg"
    ):
        keras.saving.load_model(tmp_path / "model.keras")
    loaded = keras.saving.load_model(
        tmp_path / "model.keras", custom_objects={"Unregistered": Unregistered}
    )
    assert getattr(loaded.layers[0], name) == Unregistered()


@pytest.mark.parametrize("layer_class", [brn.BatchRenormalization, brn.BatchNormalization])
def test_weights_of_another_layer(layer_class):
    """They are refused as a whole, before anything is written."""
    layer = layer_class(name="norm")
    layer.build((None, 3))
    before = layer.get_weights()
    with pytest.raises(ValueError, match=r"not those of 'norm'.*brn.convert. Received: 1 weights"):
        layer.load_own_variables({"0": np.full(3, 7.0)})
    for value, expected in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
