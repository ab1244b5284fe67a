"""Masked elements are normalized but do not count; what counts nothing changes nothing."""

import keras
import numpy as np
import pytest
from harness import (
    ONCE,
    SHAPE,
    WAYS,
    assert_step_matches,
    mirror,
    numpy,
    perturb,
    state,
    tensor,
    training_pass,
)

import brn

KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "normalization": brn.BatchNormalization,
}


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of one of the two layers."""
    return KINDS[request.param]


@pytest.mark.parametrize(
    ("shape", "axis", "mask_shape", "microbatch_size"),
    [
        (SHAPE, -1, (6,), None),
        (SHAPE, -1, (6, 2), None),
        (SHAPE, -1, (6, 2), 4),
        (SHAPE, -1, SHAPE, None),
        (SHAPE, -1, SHAPE, 4),
        (SHAPE, -1, (6, 1, 5), 4),
        (SHAPE, -1, (1, 2, 1), 3),
        (SHAPE, -1, (1, 1, 5), None),
        (SHAPE, -1, (6, 1), 4),
        ((3, 2, 2, 5), -1, (1, 2, 1), None),
        ((6, 5, 2), 1, (6,), 4),
        ((6, 5, 2), 1, (6, 5), None),
        ((6, 5, 2), 1, (6, 1, 2), 4),
        ((3, 2, 5, 2), 2, (3, 2), None),
        ((6, 2, 1), -1, (6, 2), None),
        ((12, 1), -1, (12,), 5),
    ],
)
def test_every_shape_of_mask(rng, shape, axis, mask_shape, microbatch_size):
    x, upstream = rng.normal(2.0, 3.0, (2, *shape))
    mask = rng.random(mask_shape) < 0.7
    mask.flat[0], mask.flat[-1] = False, True
    layer = KINDS["renormalization"](axis=axis, microbatch_size=microbatch_size)
    layer = perturb(layer, x)
    done = assert_step_matches(layer, mirror(layer), x, upstream, mask, how=ONCE)
    assert 0 < done.count.sum() < x.size


@pytest.mark.parametrize("how", WAYS[1:])
def test_compiled(rng, build, how):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    layer = perturb(build(microbatch_size=4), x)
    assert_step_matches(layer, mirror(layer), x, upstream, rng.random(SHAPE[:2]) < 0.7, how=how)


def test_mental_arithmetic():
    """Of (1, 100, 3) the first and the last count: mu_B = 2, sigma_B = sqrt(3 + 1) = 2."""
    layer = brn.BatchRenormalization(momentum=0.5, epsilon=3.0, r_max=1, d_max=0)
    y = layer(tensor([[1], [100], [3]]), mask=tensor([True, False, True], "bool"), training=True)
    np.testing.assert_allclose(numpy(y), [[-0.5], [49], [0.5]], rtol=1e-6)
    np.testing.assert_allclose(state(layer), [[1], [1.5]], rtol=1e-6)


@pytest.mark.parametrize("microbatch_size", [None, 3])
def test_what_is_masked_may_be_anything(rng, build, microbatch_size):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    mask = rng.random(SHAPE[:2]) < 0.6
    layer = perturb(build(microbatch_size=microbatch_size), x)
    before, outputs, states = layer.get_weights(), [], []
    for filling in (0.0, 1e30, np.nan, np.inf):
        layer.set_weights(before)
        filled = np.where(mask[..., None], x, filling)
        outputs.append(training_pass(layer, filled, upstream, mask, how=ONCE).y[mask])
        states.append(state(layer))
    for y, moved in zip(outputs, states, strict=True):
        np.testing.assert_array_equal(y, outputs[0])
        np.testing.assert_array_equal(moved, states[0])


def test_what_is_masked_and_does_not_reach_the_loss_spoils_no_gradient(rng, build):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    mask = rng.random(SHAPE[:2]) < 0.6
    upstream[~mask] = 0
    passes = []
    for value in (0.0, 1e30):
        layer = perturb(build(), x)
        filled = np.where(mask[..., None], x, value)
        passes.append(training_pass(layer, filled, upstream, mask))
    for name in ("dx", "dgamma", "dbeta"):
        got, wanted = getattr(passes[1], name), getattr(passes[0], name)
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("microbatch_size", [None, 4])
@pytest.mark.parametrize("how", ["eager", WAYS[-1]])
def test_a_batch_masked_entirely_changes_nothing(rng, build, microbatch_size, how):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    layer = perturb(build(microbatch_size=microbatch_size), x)
    before = layer.get_weights()
    done = training_pass(layer, x, upstream, np.zeros(SHAPE[:2], bool), how=how)
    for value, old in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)
    np.testing.assert_allclose(done.y, mirror(layer).inference(x), rtol=1e-4, atol=1e-4)
    expected = mirror(layer).backward(x, upstream, np.zeros(SHAPE[:2], bool))
    for value, wanted in zip((done.dx, done.dgamma, done.dbeta), expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-4)


def test_a_channel_masked_entirely_keeps_its_statistics(rng, build):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    mask = np.ones(SHAPE, bool)
    mask[..., 2] = False
    layer = perturb(build(), x)
    before, inference = state(layer), mirror(layer).inference(x)
    done = assert_step_matches(layer, mirror(layer), x, upstream, mask)
    np.testing.assert_allclose(done.y[..., 2], inference[..., 2], rtol=1e-5, atol=1e-5)
    for value, old in zip(state(layer), before, strict=True):
        assert value[2] == old[2]
        assert (np.delete(value, 2) != np.delete(old, 2)).all()


def test_a_microbatch_masked_entirely_does_not_count(rng, build):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    mask = np.arange(6) >= 3
    layer, other = (perturb(build(microbatch_size=3), x) for _ in range(2))
    assert_step_matches(layer, mirror(layer), x, upstream, mask, how=ONCE)
    training_pass(other, x[3:], upstream[3:], how=ONCE)
    for value, wanted in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-6)


def test_a_mask_of_ones_is_no_mask(rng, build):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    masked, plain = (
        training_pass(perturb(build(), x), x, upstream, mask)
        for mask in (np.ones(SHAPE[:2], bool), None)
    )
    np.testing.assert_allclose(masked.y, plain.y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(masked.dx, plain.dx, rtol=1e-5, atol=1e-6)


def test_masks_have_no_part_in_inference(rng, build):
    x = tensor(rng.normal(size=SHAPE))
    layer = perturb(build(), rng.normal(size=SHAPE))
    masked = layer(x, mask=tensor(np.zeros(SHAPE[:2]), "bool"), training=False)
    np.testing.assert_array_equal(numpy(masked), numpy(layer(x, training=False)))


def test_a_mask_of_numbers_is_true_where_it_is_not_zero(rng, build):
    x = rng.normal(size=SHAPE)
    mask = (rng.random(SHAPE[:2]) < 0.7).astype("float32")
    layer = perturb(build(), x)
    expected = mirror(layer).update(x, mask > 0).y
    y = layer(tensor(x), mask=tensor(mask), training=True)
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-5, atol=1e-5)


def test_the_mask_of_a_masking_layer(rng, build):
    x = rng.normal(2.0, 3.0, SHAPE)
    mask = rng.random(SHAPE[:2]) < 0.7
    x[~mask] = -1.0
    layer = perturb(build(), x)
    reference = mirror(layer)
    inputs = keras.Input(SHAPE[1:])
    hidden = keras.layers.Masking(-1.0)(inputs)
    model = keras.Model(inputs, layer(hidden))
    y = numpy(model(tensor(x), training=True))
    # Masking also zeroes what it masks.
    expected = reference.update(np.where(mask[..., None], x, 0), mask).y
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-5)


def test_the_mask_of_an_embedding_reaches_the_layer_and_passes_through(rng, build):
    tokens = rng.integers(0, 3, SHAPE[:2])
    embedding = keras.layers.Embedding(3, 5, mask_zero=True)
    embedding.build()
    x = numpy(embedding.embeddings)[tokens]
    layer = perturb(build(), x)
    reference = mirror(layer)
    average = keras.layers.GlobalAveragePooling1D()
    model = keras.Sequential([keras.Input(SHAPE[1:2], dtype="int32"), embedding, layer, average])
    y = numpy(model(tensor(tokens, "int32"), training=True))
    mask = (tokens > 0)[..., None]
    expected = reference.update(x, tokens > 0).y
    np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-5)
    # Keras's average of a mask without elements is a division by zero.
    some = mask.any((1, 2))
    expected = (expected * mask).sum(1)[some] / mask.sum(1)[some]
    np.testing.assert_allclose(y[some], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "mask_shape", [(5,), (6, 3), (6, 2, 4), (6, 3, 5), (2, 6), (6, 2, 5, 1), (1, 3)]
)
def test_masks_that_do_not_fit(rng, build, mask_shape):
    x = tensor(rng.normal(size=SHAPE))
    with pytest.raises(ValueError, match="mask") as error:
        build()(x, mask=tensor(np.ones(mask_shape), "bool"), training=True)
    assert f"mask.shape={mask_shape}" in str(error.value)
    assert f"inputs.shape={SHAPE}" in str(error.value)
