"""The networks: their normalization is an argument, before each ReLU, gamma fixed to 1."""

import keras
import numpy as np
import pytest

import brn
from brn.schedules import Constant
from experiments.grid.normalizations import Bounds, Normalization
from experiments.training import models

pytestmark = pytest.mark.any_backend

PAPER = Bounds()


def make(kind="brn", group=4, bounds=PAPER):
    return models.normalization(Normalization(kind, group, bounds), 130, alpha=0.1, epsilon=0.01)


def test_normalization_has_the_papers_schedule_for_the_run():
    layer = make()()
    assert isinstance(layer, brn.BatchRenormalization)
    assert (layer.r_max, layer.d_max) == brn.paper_clipping(130)
    assert (layer.microbatch_size, layer.scale, layer.epsilon) == (4, False, 0.01)
    assert layer.momentum == pytest.approx(0.9)
    assert type(make("bn")()) is brn.BatchNormalization


def test_other_bounds_and_group_normalization():
    layer = make(bounds=Bounds(3, float("inf")))()
    assert (layer.r_max, layer.d_max) == (Constant(3.0), Constant(float("inf")))
    assert isinstance(make("gn")(), keras.layers.GroupNormalization)


def test_statistics_of_all_examples_of_a_step_are_synchronized():
    layer = make("bn", group=None)()
    assert (layer.synchronized, layer.microbatch_size) == (True, None)


@pytest.mark.parametrize(
    ("shape", "modules", "stem_stride", "last"),
    [((8, 16, 1), 1, 1, (4, 8, 8)), ((32, 32, 3), 2, 4, (2, 2, 16))],
)
def test_small_inception(shape, modules, stem_stride, last):
    model = models.build("inception_small", shape, 7, make(), 2, modules, stem_stride)
    assert model.layers[-2].input.shape == (None, *last)
    assert model.output_shape == (None, 7)
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    normalizations = [x for x in model.layers if isinstance(x, brn.BatchRenormalization)]
    assert len(convolutions) == len(normalizations) == 1 + modules * 8
    for layer in model.layers:
        if isinstance(layer, keras.layers.ReLU):
            before = layer.input._keras_history.operation
            assert before in normalizations
            assert before.input._keras_history.operation in convolutions


def test_inception_v3_is_the_one_of_keras_but_for_the_normalization():
    model = models.build("inception_v3", (75, 75, 3), 5, make("bn", group=32))
    ours = [x for x in model.layers if isinstance(x, brn.BatchNormalization)]
    assert len(ours) == 94
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in model.layers)
    assert all(x.microbatch_size == 32 and not x.scale for x in ours)
    assert model.output_shape == (None, 5)


def test_unknown_network():
    with pytest.raises(ValueError, match="network='vgg'"):
        models.build("vgg", (8, 8, 1), 2, make())


@pytest.mark.parametrize(("depth", "modules"), [(4, 0), (8, 1), (32, 7)])
def test_the_deep_network_has_as_many_normalization_layers_on_its_longest_path(depth, modules):
    model = models.deep((28, 28, 1), 10, keras.layers.BatchNormalization, 4, depth, 8)
    longest = {}
    for layer in model.layers:  # in the order of the graph
        before = [longest[id(t)] for t in keras.tree.flatten(layer.input) if id(t) in longest]
        own = isinstance(layer, keras.layers.BatchNormalization)
        longest[id(layer.output)] = max(before, default=0) + own
    assert longest[id(model.output)] == depth
    normalized = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(normalized) == 4 + 5 * modules
    # All after the third are on one position.
    assert [x.output.shape[1:3] for x in normalized[2:]] == [(2, 2)] + [(1, 1)] * (1 + 5 * modules)


@pytest.mark.parametrize("depth", [3, 5, 15])
def test_a_depth_that_no_number_of_modules_gives_is_refused(depth):
    with pytest.raises(ValueError, match=rf"Expected a depth of 4, 8, 12.*depth={depth}"):
        models.deep((28, 28, 1), 10, keras.layers.BatchNormalization, 4, depth, 8)


@pytest.mark.parametrize("depth", [4, 7])
def test_a_chain_has_one_path_on_which_all_its_layers_stand(depth):
    model = models.build(
        "chain", (28, 28, 1), 10, keras.layers.BatchNormalization, 4, 0, 4, depth, 8
    )
    assert all(len(x._inbound_nodes[0].input_tensors) <= 1 for x in model.layers)
    normalized = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    at = [x.output.shape[1:] for x in normalized]
    assert at == [(7, 7, 4), (4, 4, 8), (2, 2, 12)] + [(1, 1, 8)] * (depth - 3)


def test_a_chain_shorter_than_its_way_to_one_position_is_refused():
    with pytest.raises(ValueError, match=r"Expected a depth of at least 4.*depth=3"):
        models.chain((28, 28, 1), 10, keras.layers.BatchNormalization, 4, 3, 8)


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="stem_stride=5"):
        models.deep((28, 28, 1), 10, keras.layers.BatchNormalization, 4, 8, 8, stem_stride=5)


def test_a_patch_is_one_position_with_all_its_pixels():
    images = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).astype("float32")
    patches = keras.ops.convert_to_numpy(models._patches(keras.ops.array(images), 2))
    assert patches.shape == (2, 2, 3, 12)
    for row in range(2):
        for column in range(3):
            patch = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            np.testing.assert_array_equal(patches[:, row, column], patch.reshape(2, 12))
