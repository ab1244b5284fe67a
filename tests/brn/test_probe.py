"""Corrections of a minibatch, without a trace in the model."""

import dataclasses
import threading

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, mirror, numpy, perturb, tensor

import brn
from brn.probe import observe
from brn.schedules import Ramp


def renormalization(**arguments):
    return brn.BatchRenormalization(r_max=2.0, d_max=1.5, **arguments)


def the_only(found):
    (layer,) = found.values()
    return layer


def assert_matches(found, expected):
    """`expected` is the reference's pass."""
    np.testing.assert_array_equal(found.valid, expected.count > 0)
    np.testing.assert_allclose(found.r, expected.r, rtol=1e-5)
    np.testing.assert_allclose(found.d, expected.d, rtol=1e-5, atol=1e-5)
    valid = expected.count > 0
    assert found.r_clipped == pytest.approx(expected.r_clipped[valid].mean())
    assert found.d_clipped == pytest.approx(expected.d_clipped[valid].mean())


def test_by_mental_arithmetic():
    """Mean 1 and deviation 2 against 0 and 1; the second channel against 1 and 4."""
    layer = brn.BatchRenormalization(epsilon=0.0, r_max=1.5, d_max=0.5)
    layer.build((None, 2))
    layer.moving_mean.assign([0.0, 1.0])
    layer.moving_stddev.assign([1.0, 2.0])
    found = the_only(brn.corrections(layer, np.array([[-1.0, -1.0], [3.0, 3.0]])))
    np.testing.assert_allclose(found.ratio, [[2.0, 1.0]])
    np.testing.assert_allclose(found.shift, [[1.0, 0.0]])
    np.testing.assert_allclose(found.r, [[1.5, 1.0]])
    np.testing.assert_allclose(found.d, [[0.5, 0.0]])
    assert (found.r_max, found.d_max) == (1.5, 0.5)
    assert (found.r_clipped, found.d_clipped) == (0.5, 0.5)
    assert found.finite


@pytest.mark.parametrize("microbatch_size", [None, 4])
@pytest.mark.parametrize("axis", [-1, 1])
def test_they_are_the_references(rng, axis, microbatch_size):
    x = np.moveaxis(rng.normal(2.0, 3.0, SHAPE), -1, axis)
    layer = perturb(renormalization(axis=axis, microbatch_size=microbatch_size), x)
    before, expected = layer.get_weights(), mirror(layer).forward(x)
    assert 0 < expected.r_clipped.mean() < 1
    assert 0 < expected.d_clipped.mean() < 1
    assert_matches(the_only(brn.corrections(layer, x)), expected)
    for value, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_batch_normalization_corrects_nothing(rng):
    x = rng.normal(2.0, 3.0, SHAPE)
    layer = perturb(brn.BatchNormalization(microbatch_size=2), x)
    found, reference = the_only(brn.corrections(layer, x)), mirror(layer)
    expected = reference.forward(x)
    np.testing.assert_array_equal(found.r, np.ones((3, 5)))
    np.testing.assert_array_equal(found.d, np.zeros((3, 5)))
    assert (found.r_max, found.d_max) == (1.0, 0.0)
    np.testing.assert_allclose(found.ratio, expected.sigma / reference.sigma, rtol=1e-5)
    shift = (expected.mean - reference.mean) / reference.sigma
    np.testing.assert_allclose(found.shift, shift, rtol=1e-5, atol=1e-5)


def test_what_is_masked_does_not_count(rng):
    """The second microbatch is masked entirely: it has no statistics."""
    x = rng.normal(2.0, 3.0, SHAPE)
    x[0, 1] = x[2:4] = -1.0
    layer = perturb(renormalization(microbatch_size=2), x)
    model = keras.Sequential([keras.Input(SHAPE[1:]), keras.layers.Masking(-1.0), layer])
    expected = mirror(layer).forward(x, (x != -1.0).any(-1))
    np.testing.assert_array_equal(expected.count, np.repeat([[3], [0], [4]], 5, axis=1))
    found = the_only(brn.corrections(model, x))
    assert_matches(found, expected)
    assert found.layer is layer
    hidden = dataclasses.replace(found, valid=found.valid & False)
    assert np.isnan(hidden.r_clipped)
    assert np.isnan(hidden.d_clipped)


def test_layers_are_found_wherever_they_are(rng):
    """In models inside models, in custom layers, and in the order of the calls."""

    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = [renormalization(name="in_a_list")]

        def build(self, shape):
            self.inner[0].build(shape)

        def call(self, x):
            return self.inner[0](x)

    nested = keras.Sequential([keras.Input((5,)), renormalization(name="nested")], name="part")
    model = keras.Sequential(
        [keras.Input((5,)), brn.BatchNormalization(name="z"), nested, Block(), Block(name="a")]
    )
    paths = list(brn.corrections(model, rng.normal(size=(6, 5))))
    assert [path.split("/")[-1] for path in paths] == ["z", "nested", "in_a_list", "in_a_list"]
    assert len(set(paths)) == 4


def test_a_layer_called_twice_has_the_groups_of_both_calls(rng):
    """The second call sees the averages that the first one moved."""
    x = rng.normal(2.0, 3.0, (2, 6, 5))
    layer = perturb(
        brn.BatchRenormalization(momentum=0.5, r_max=Ramp(1, 3, 0, 10), d_max=1.5), x[0]
    )
    layer.step.assign(5)
    inputs = {name: keras.Input((5,), name=name) for name in "st"}
    model = keras.Model(inputs, keras.layers.add([layer(inputs["s"]), layer(inputs["t"])]))
    reference = mirror(layer, r_max=lambda step: 1 + step / 5, d_max=1.5)
    passes = [reference.update(value) for value in x]
    found = the_only(brn.corrections(model, {"s": x[0], "t": x[1]}))
    np.testing.assert_allclose(found.r, np.concatenate([p.r for p in passes]), rtol=1e-5)
    np.testing.assert_allclose(found.d, np.concatenate([p.d for p in passes]), atol=1e-5)
    assert found.r_max == pytest.approx(2.0)
    assert int(numpy(layer.step)) == 5


def test_nothing_of_the_pass_is_left(rng):
    """Neither the seeds of dropout nor losses nor statistics of Keras's own layers."""
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(5, activity_regularizer="l2"),
            keras.layers.BatchNormalization(),
            renormalization(),
        ]
    )
    before = [numpy(variable) for variable in model.variables]
    brn.corrections(model, rng.normal(size=(6, 5)))
    assert model.losses == []
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(numpy(variable), value, err_msg=variable.path)


def test_a_probe_follows_the_model(rng):
    x = rng.normal(2.0, 3.0, SHAPE)
    layer = perturb(renormalization(momentum=0.5), x)
    probe, reference = brn.Probe(layer), mirror(layer)
    for _ in range(3):
        assert_matches(the_only(probe(x)), reference.update(x))
        layer(tensor(x), training=True)


def test_layers_that_do_not_train_correct_nothing(rng):
    x = rng.normal(size=(6, 5))
    layer = perturb(renormalization(), x)
    layer.trainable = False
    assert brn.corrections(layer, x) == {}


def test_statistics_that_are_not_finite_are_seen(rng):
    x = rng.normal(size=(6, 5))
    layer = perturb(renormalization(), x)
    layer.moving_mean.assign([0, 0, np.nan, 0, 0])
    assert not the_only(brn.corrections(layer, x)).finite


def test_a_model_without_weights_is_refused():
    model = keras.Sequential([renormalization()], name="unbuilt")
    with pytest.raises(ValueError, match="Received: model='unbuilt'"):
        brn.corrections(model, np.zeros((2, 5)))


def test_what_is_no_model_and_what_are_no_inputs(rng):
    x = rng.normal(size=(6, 5))
    with pytest.raises(ValueError, match="Received: model=None"):
        brn.corrections(None, x)
    layer = perturb(renormalization(), x)
    for wrong in (None, "abc", 3.0, ()):
        with pytest.raises(ValueError, match="must be arrays") as error:
            brn.corrections(layer, wrong)
        assert f"Received: inputs={wrong!r}" in str(error.value)
    model = keras.Sequential([keras.Input((5,)), layer], name="one")
    with pytest.raises(ValueError, match=r"takes 1 array.*Received: 2 arrays.*model='one'"):
        brn.corrections(model, (x, x))


def test_integer_inputs_stay_integers():
    model = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(4, 5)])
    model.add(renormalization())
    assert the_only(brn.corrections(model, np.array([[0, 1], [2, 3]]))).r.shape == (1, 5)


def test_another_thread_may_train_meanwhile(rng):
    """What it does is not the probed model's, and its averages move."""
    x = rng.normal(size=(6, 5))
    elsewhere = perturb(renormalization(name="elsewhere"), x)

    class Busy(keras.layers.Layer):
        def call(self, inputs):
            thread = threading.Thread(target=lambda: elsewhere(tensor(x), training=True))
            thread.start()
            thread.join()
            return inputs

    model = keras.Sequential([keras.Input((5,)), renormalization(name="here"), Busy()])
    steps = int(numpy(elsewhere.step))
    assert [path.split("/")[-1] for path in brn.corrections(model, x)] == ["here"]
    assert int(numpy(elsewhere.step)) == steps + 1


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile is PyTorch's")
def test_looking_does_not_break_torch_compile():
    """Most of the time nobody looks, and then the layer must stay in one piece."""
    import torch

    def step(x):
        observe(None, x, x, x, x, None)
        return x + 1

    torch._dynamo.reset()
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(1)).tolist() == [1]
