"""What the study of test-time statistics trains with and measures, by mental arithmetic."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from harness import ONCE, numpy, perturb, state, training_pass

import brn
from experiments.data.load import load
from experiments.grid import protocols
from experiments.grid.normalizations import Bounds
from experiments.grid.runs import select_runs
from experiments.records.store import Store
from experiments.studies import inference, instruments
from experiments.training import models
from experiments.training.layers import AveragesAsConstants, GroupStatistics
from experiments.training.run import Trainer

UNBOUNDED = {"r_max": float("inf"), "d_max": float("inf")}


def both(x, upstream, **settings):
    """A training pass of `AveragesAsConstants` and one of Batch Renormalization, and the layers."""
    layers = [kind(**settings) for kind in (AveragesAsConstants, brn.BatchRenormalization)]
    for layer in layers:
        perturb(layer, x)
    sigma, gamma = numpy(layers[0].moving_stddev), numpy(layers[0].gamma)
    passes = [training_pass(layer, x, upstream, how=ONCE) for layer in layers]
    return passes, layers, gamma / sigma


def test_averages_as_constants_pass_forward_as_unbounded_renormalization_and_backward_not(rng):
    x, upstream = rng.normal(2, 3, (8, 2, 5)), rng.normal(size=(8, 2, 5))
    (constants, through), layers, slope = both(x, upstream, microbatch_size=4, **UNBOUNDED)
    np.testing.assert_allclose(constants.y, through.y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state(layers[0]), state(layers[1]), rtol=1e-6)
    # dx = dy gamma / sigma here; there it sums to zero over the minibatch, and so does x dx.
    np.testing.assert_allclose(constants.dx, upstream * slope, rtol=1e-4)
    groups = through.dx.reshape(2, -1, 5)
    np.testing.assert_allclose(groups.sum(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose((x.reshape(2, -1, 5) * groups).sum(axis=1), 0, atol=0.02)
    assert np.abs(constants.dx.sum(axis=(0, 1))).max() > 0.1
    assert np.abs((x * constants.dx).sum(axis=(0, 1))).max() > 0.1


def test_averages_as_constants_are_batch_normalization_until_the_bounds_go(rng):
    x, upstream = rng.normal(2, 3, (8, 2, 5)), rng.normal(size=(8, 2, 5))
    r_max, d_max = models.schedules(Bounds(none_after=0.5), 4)
    (constants, through), _, _ = both(x, upstream, r_max=r_max, d_max=d_max)
    np.testing.assert_allclose(constants.y, through.y, atol=1e-5)
    np.testing.assert_allclose(constants.dx, through.dx, atol=1e-5)
    seen = [float(numpy(bound(step))) for bound in (r_max, d_max) for step in (0, 1, 2, 4)]
    assert seen == [1, 1, 1e9, 1e9, 0, 0, 1e9, 1e9]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_group_statistics_are_those_of_microbatches(rng, size):
    x = rng.normal(2, 3, (8, 2, 3, 4)).astype(np.float32)
    layer, expected = GroupStatistics(0.1), brn.BatchNormalization(epsilon=0.1, scale=False)
    expected.microbatch_size = size
    for each in (layer, expected):
        each.build(x.shape)
        each.beta.assign([0.0, 1.0, 2.0, 3.0])
    layer.group_size.assign(size)
    np.testing.assert_allclose(
        numpy(layer(x)), numpy(expected(x, training=True)), rtol=1e-4, atol=1e-5
    )


def test_distances_are_in_units_of_the_populations_deviation():
    population = [(np.array([1.0]), np.array([3.0])), (np.array([0.0]), np.array([15.0]))]
    moved = [(np.array([3.0]), np.array([3.0])), (np.array([4.0]), np.array([15.0]))]
    wider = [(np.array([1.0]), np.array([15.0])), (np.array([0.0]), np.array([63.0]))]
    assert inference.distances(moved, population, epsilon=1.0) == (1.0, 0.0)
    mean, deviation = inference.distances(wider, population, epsilon=1.0)
    assert (mean, deviation) == (0.0, pytest.approx(np.log(2)))


def test_disagreement_counts_pairs_and_leaves_out_what_all_logits_share():
    still = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert inference.disagreement(np.stack([still, still + 7.0])) == (0.0, 0.0)
    # Of three partitions one turns the first image: two of three pairs, and one of two images.
    turned = np.array([[0.0, 2.0], [0.0, 2.0]])
    changes, movement = inference.disagreement(np.stack([still, still, turned]))
    assert changes == pytest.approx(100 * 2 / 3 / 2)
    # Logits +-1 after centering: of one image the variance is 4/3 over 1, 1, -1.
    assert movement == pytest.approx(np.sqrt(4 / 3 / 2))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The result of a tiny run that measures everything, and its trainer."""
    patch = pytest.MonkeyPatch()
    patch.setattr(inference, "IMAGES", 64)
    patch.setattr(inference, "POPULATION", 128)
    patch.setattr(inference, "NOISE_MINIBATCHES", 2)
    patch.setattr(inference, "CLASSES", (4, 1))
    patch.setattr(inference, "SIZES", (1, 64))
    arm = next(a for a in protocols.TEST_TIME.studies[0].arms if a.name == "bn-32")
    protocol = dataclasses.replace(protocols.SMOKE, workers=1, averaging=0.0, steps=4)
    trainer = Trainer(protocol, arm, load(protocol.source), instruments)
    result = trainer.run(0, Store(tmp_path_factory.mktemp("results")))
    yield result, trainer
    patch.undo()


def test_a_run_measures_statistics_and_minibatches(measured):
    result, _ = measured
    first, last = result["curve"]
    assert result["config"]["measurements"] == ["norms", "statistics", "minibatches"]
    assert first["weight_norm_layer_01"] > 0
    assert "mean_distance_alpha_0.1" not in first  # every second evaluation
    assert last["accuracy_minibatch_064_percent"] == last["accuracy_test_set_percent"]
    assert last["changes_minibatch_064_percent"] == last["changes_minibatch_001_percent"] == 0
    assert last["movement_minibatch_001"] < 1e-5
    assert last["normalized_rms_layer_01"] > 0
    assert all(0 <= v <= 100 for k, v in last.items() if k.endswith("_percent"))
    assert json.loads(json.dumps(last)) == last


def test_the_layers_own_average_is_among_those_kept(measured):
    _, trainer = measured
    kept = trainer.instruments[-1]._kept()
    number = len(inference.ALPHAS)
    own = protocols.SMOKE.alpha  # 0.01
    averages = trainer.instruments[-1]._average(inference.ALPHAS.index(own))
    assert len(trainer.instruments[-1].averages) == 2 * number * len(kept)
    for (mean, variance), (mu, spread) in zip(averages, kept, strict=True):
        np.testing.assert_allclose(mean, mu, atol=1e-5)
        np.testing.assert_allclose(variance, spread, rtol=1e-4)


def test_population_statistics_are_those_of_all_images(measured):
    _, trainer = measured
    model, measurements = trainer.model, trainer.instruments[-1]
    trainable = [numpy(v) for v in model.trainable_variables]
    mean, variance = measurements._statistics_of(measurements._population, trainable)[0]
    first = keras.Model(model.inputs, measurements.layers[0].input)
    before = numpy(first(keras.ops.convert_to_tensor(measurements._population)))
    np.testing.assert_allclose(mean, before.mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(variance, before.var(axis=(0, 1, 2)), rtol=1e-3, atol=1e-6)


def test_measuring_is_asked_for_and_leaves_other_configurations_alone():
    assert "measurements" not in select_runs("digits", ["bn-32"], [0])[0].config()
    run = select_runs("test_time", ["constants-32"], [0])[0].config()
    assert (run["measurements"], run["workers"], run["averaging"]) == (["norms"], 1, 0.0)
    rates = {
        r.arm.name: r.effective_protocol.learning_rate for r in select_runs("test_time", None, [0])
    }
    assert (rates["bn-32-slow"], rates["bn-32"], rates["bn-32-fast"]) == (0.0025, 0.01, 0.04)
