"""Where arithmetic goes wrong: low precision, constant channels, one example, large means."""

import keras
import ml_dtypes
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
    tensor,
    training_pass,
)

import brn

HALF = {"float16": (np.float16, 1e-3), "bfloat16": (ml_dtypes.bfloat16, 8e-3)}
KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "normalization": brn.BatchNormalization,
}


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of one of the two layers."""
    return KINDS[request.param]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
@pytest.mark.parametrize("inputs", ["float32", "half"])
def test_half_precision(rng, build, policy, inputs):
    """Only the output is rounded to half precision: the state is as exact as in float32."""
    name = policy.removeprefix("mixed_")
    half, rtol = HALF[name]
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE)).astype(half).astype("float64")
    layer = perturb(build(dtype=policy, microbatch_size=4), x)
    dtype = name if inputs == "half" else "float32"
    assert_step_matches(layer, mirror(layer), x, upstream, rtol=rtol, state_rtol=1e-5, dtype=dtype)
    y = layer(tensor(x, dtype), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == name
    y = layer(tensor(x, dtype), training=False)
    assert keras.backend.standardize_dtype(y.dtype) == name
    for weight in layer.non_trainable_weights:
        assert weight.dtype in ("float32", "int32"), weight.path


def test_state_moves_by_less_than_half_precision_resolves(rng):
    """In float16, 100 + 0.01 is 100: the averages would stand still."""
    x = rng.normal(101.0, 1.0, SHAPE)
    layer = brn.BatchRenormalization(dtype="float16", r_max=1, d_max=0)
    layer.build(x.shape)
    layer.moving_mean.assign(np.full(5, 100.0))
    reference = mirror(layer)
    for _ in range(3):
        layer(tensor(x), training=True)
        reference.update(x)
    np.testing.assert_allclose(numpy(layer.moving_mean), reference.mean, rtol=1e-6)
    assert (numpy(layer.moving_mean) > 100.02).all()


def test_inputs_beyond_the_range_of_float16(rng, build):
    x, upstream = rng.normal(size=(2, *SHAPE))
    x = (1e6 * x).astype("float32")
    assert np.abs(x).max() > 65504
    layer = perturb(build(dtype="mixed_float16"), x)
    assert_step_matches(
        layer, mirror(layer), x, upstream.astype("float16"), rtol=1e-3, state_rtol=1e-5
    )
    inference = layer(tensor(x), training=False)
    np.testing.assert_allclose(numpy(inference), mirror(layer).inference(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("epsilon", "microbatch_size"), [(1e-3, None), (1e-3, 3), (0.1, None), (0.1, 1)]
)
def test_constant_channels(rng, build, epsilon, microbatch_size):
    x, upstream = rng.normal(size=(2, *SHAPE))
    x[:] = [0.0, 7.0, -3.0, 0.1, 1e4]
    layer = perturb(build(epsilon=epsilon, microbatch_size=microbatch_size), x)
    done = assert_step_matches(layer, mirror(layer), x, upstream, how=ONCE)
    np.testing.assert_allclose(done.sigma, np.sqrt(epsilon))


@pytest.mark.parametrize("shape", [(1, 5), (1, 3, 5)])
def test_one_example(rng, build, shape):
    x, upstream = rng.normal(2.0, 3.0, (2, *shape))
    layer = perturb(build(), x)
    assert_step_matches(layer, mirror(layer), x, upstream, how=ONCE)


def test_large_epsilon(rng, build):
    """Epsilon is inside the root, inside the state, and nowhere else."""
    x, upstream = rng.normal(2.0, 0.3, (2, *SHAPE))
    layer = perturb(build(epsilon=0.1), x)
    assert_step_matches(layer, mirror(layer), x, upstream)
    np.testing.assert_allclose(
        numpy(layer(tensor(x), training=False)), mirror(layer).inference(x), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("microbatch_size", [None, 4])
def test_means_far_from_zero(rng, build, how, microbatch_size):
    """In float32, E[x^2] - E[x]^2 of a mean of 1e6 is noise of the size of 1e5."""
    x, upstream = rng.normal(size=(2, *SHAPE))
    x = (1e6 + x).astype("float32").astype("float64")
    layer = perturb(build(microbatch_size=microbatch_size), x)
    assert_step_matches(layer, mirror(layer), x, upstream, rtol=1e-5, how=how)


def test_ratio_of_scales_is_bounded_from_below():
    """Without rmin = 1 / rmax, Keras and tf_keras let r fall to 0.01 here."""
    x = 0.01 * np.array([[-1.0], [1.0]])
    layer = brn.BatchRenormalization(r_max=3, d_max=0, epsilon=1e-12)
    np.testing.assert_allclose(numpy(layer(tensor(x), training=True)), 100 * x / 3, rtol=1e-4)


def test_the_first_output_of_the_default_layer_is_normalized(rng):
    """Keras's default does not clip, so that its first training output is its input."""
    x = rng.normal(5.0, 7.0, (64, 3))
    y = numpy(brn.BatchRenormalization()(tensor(x), training=True))
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_inputs_that_are_not_floating(rng, build, dtype):
    x = rng.integers(0, 2 if dtype == "bool" else 100, SHAPE)
    layer = perturb(build(), x)
    expected = mirror(layer).forward(x).y
    y = layer(tensor(x, dtype), training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_allclose(numpy(y), expected, rtol=1e-5, atol=1e-5)


def test_an_empty_batch_changes_nothing(build):
    layer = perturb(build(), np.random.default_rng(0).normal(size=SHAPE))
    before = layer.get_weights()
    done = training_pass(layer, np.zeros((0, 2, 5)), np.zeros((0, 2, 5)))
    assert done.y.shape == done.dx.shape == (0, 2, 5)
    np.testing.assert_array_equal(done.dgamma, np.zeros(5))
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
