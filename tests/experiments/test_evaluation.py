"""Accuracy is counted right, and evaluating moves nothing."""

import keras
import numpy as np

import brn
from experiments.data.splits import DecodedSplit
from experiments.training import evaluation

LABELS = np.array([0, 0, 1, 1, 2, 2])
SPLIT = DecodedSplit(LABELS, np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1))


def test_accuracy_counts_the_images_asked_for():
    def logits(weights, images):
        predicted = np.rint((images.reshape(-1) + 1) * 127.5)  # the image's number
        return np.eye(6)[(predicted / 2).astype(int) * (predicted < 5)]

    indices = np.arange(6)
    assert evaluation.accuracy_percent(logits, None, SPLIT, indices) == 100 * 5 / 6
    assert evaluation.accuracy_percent(logits, None, SPLIT, indices[:5]) == 100
    assert evaluation.accuracy_percent(logits, None, SPLIT, np.repeat(0, 1200)) == 100


def test_a_sample_is_always_the_same_and_has_all_labels():
    chosen = evaluation.sample_indices(20_000, 2000)
    assert len(set(chosen)) == 2000
    assert set(np.bincount(chosen % 100, minlength=100) > 5) == {True}  # labels in turns
    np.testing.assert_array_equal(chosen, evaluation.sample_indices(20_000, 2000))
    np.testing.assert_array_equal(evaluation.sample_indices(3, 5), [0, 1, 2])


def test_structured_minibatches_are_pairs_and_fill_the_number():
    split = DecodedSplit(np.repeat(np.arange(10), 4), np.zeros((40, 1, 1, 1), np.uint8))
    indices = evaluation.structured_indices(split, 25, 2, 200)
    labels = split.labels[indices].reshape(-1, 2)
    assert labels.shape == (100, 2)
    np.testing.assert_array_equal(labels[:, 0], labels[:, 1])
    assert (indices[0::2] != indices[1::2]).all()
    np.testing.assert_array_equal(indices, evaluation.structured_indices(split, 25, 2, 200))


def test_minibatch_statistics_are_those_of_the_minibatch_and_move_nothing():
    layer = brn.BatchNormalization(epsilon=0.0, microbatch_size=2)
    model = keras.Sequential([keras.Input((1,)), layer])
    before = [keras.ops.convert_to_numpy(v.value) for v in model.variables]
    parts = (model.trainable_variables, model.non_trainable_variables)
    weights = tuple([keras.ops.convert_to_numpy(v.value) for v in part] for part in parts)
    x = np.array([[1.0], [3.0], [10.0], [30.0]], np.float32)
    by_minibatch = evaluation.logits_function(model, training=True)(weights, x)
    np.testing.assert_allclose(by_minibatch, [[-1], [1], [-1], [1]], atol=1e-6)
    inferred = evaluation.logits_function(model, training=False)(weights, x)
    np.testing.assert_allclose(inferred, x, rtol=1e-6)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable.value), value)


def test_what_bounds_clip_is_counted_over_layers_of_any_width():
    """At 1 and 0 everything is clipped, without bounds nothing: here 3 channels of 4."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            brn.BatchRenormalization(r_max=1.0, d_max=0.0),
            keras.layers.Dense(1),
            brn.BatchRenormalization(r_max=float("inf"), d_max=float("inf")),
        ]
    )
    x = np.array([[1.0, 2.0, 3.0], [4.0, 6.0, 9.0]], np.float32)
    clipped = evaluation.clipped_percent(brn.Probe(model), x)
    expected = {"": 75.0, "_layer_01": 100.0, "_layer_02": 0.0}
    for kind in "rd":
        for ending, percent in expected.items():
            assert clipped[f"{kind}_clipped_percent{ending}"] == percent
    assert len(clipped) == 6
