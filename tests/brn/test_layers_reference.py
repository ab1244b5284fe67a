"""Forward, backward and update of both layers equal the reference's."""

import keras
import numpy as np
import pytest
from harness import ONCE, SHAPE, WAYS, assert_step_matches, mirror, numpy, perturb, tensor

import brn

LAYOUTS = [
    ((12, 5), -1),
    ((12, 5), 1),
    ((6, 2, 5), -1),
    ((6, 2, 5), 2),
    ((6, 5, 2), 1),
    ((6, 5, 2), -2),
    ((3, 2, 2, 5), 3),
    ((3, 2, 5, 2), 2),
    ((3, 2, 5, 2), -2),
    ((6, 5, 2, 1), -3),
    ((2, 3, 1, 2, 5), 4),
    ((6, 5, 1, 2, 1), 1),
]
BOUNDS = {"r_max": 2.0, "d_max": 1.5}


def both(**arguments):
    """The two layers, with bounds at which `perturb` makes some channels clip."""
    return {
        "renormalization": lambda: brn.BatchRenormalization(**BOUNDS, **arguments),
        "normalization": lambda: brn.BatchNormalization(**arguments),
    }


def assert_some_clip(done):
    """Some channels clip r, some d, some neither."""
    assert done.r_clipped.any()
    assert done.d_clipped.any()
    assert (~done.r_clipped & ~done.d_clipped).any()
    assert done.r.max() > 1 > done.r.min()
    assert done.d.max() > 0 > done.d.min()


@pytest.mark.parametrize("kind", ["renormalization", "normalization"])
@pytest.mark.parametrize(("shape", "axis"), LAYOUTS)
def test_every_layout(rng, kind, shape, axis):
    x, upstream = rng.normal(2.0, 3.0, (2, *shape))
    layer = perturb(both(axis=axis, momentum=0.9)[kind](), x)
    done = assert_step_matches(layer, mirror(layer), x, upstream, how=ONCE)
    if kind == "renormalization":
        assert_some_clip(done)


@pytest.mark.parametrize("kind", ["renormalization", "normalization"])
@pytest.mark.parametrize(("center", "scale"), [(True, False), (False, True), (False, False)])
def test_without_beta_or_gamma(rng, kind, center, scale):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    layer = perturb(both(center=center, scale=scale)[kind](), x)
    assert (layer.beta is not None, layer.gamma is not None) == (center, scale)
    assert_step_matches(layer, mirror(layer), x, upstream)


@pytest.mark.parametrize(
    ("kind", "shape", "axis"),
    [("renormalization", (6, 2, 5, 2), 2), ("normalization", SHAPE, -1)],
)
@pytest.mark.parametrize(("microbatch_size", "groups"), [(1, 6), (2, 3), (4, 2), (6, 1), (7, 1)])
def test_microbatches(rng, kind, microbatch_size, groups, shape, axis):
    """Of 6 examples: divisors, a size that leaves a smaller last group, one beyond the batch."""
    x, upstream = rng.normal(2.0, 3.0, (2, *shape))
    layer = both(axis=axis, momentum=0.9, microbatch_size=microbatch_size)[kind]()
    layer = perturb(layer, x)
    done = assert_step_matches(layer, mirror(layer), x, upstream, how=ONCE)
    assert len(done.mean) == groups
    if kind == "renormalization":
        assert_some_clip(done)


def test_microbatches_have_corrections_of_their_own(rng):
    """The error of tf_keras: r and d computed from statistics averaged over the groups."""
    x = np.repeat([0.0, 10.0], 2)[:, None] + [[-1.0], [1.0], [-2.0], [2.0]]
    layer = brn.BatchRenormalization(epsilon=1e-12, r_max=np.inf, d_max=np.inf, microbatch_size=2)
    layer.build(x.shape)
    done = assert_step_matches(layer, mirror(layer), x, np.ones_like(x), how=ONCE)
    np.testing.assert_allclose(done.r, [[1], [2]])
    np.testing.assert_allclose(done.d, [[0], [10]])
    np.testing.assert_allclose(done.y, x, atol=1e-6)


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("microbatch_size", [None, 4])
def test_steps_in_sequence_while_the_bounds_move(rng, bias_correction, microbatch_size):
    layer = brn.BatchRenormalization(
        momentum=0.8,
        r_max=brn.schedules.Ramp(1, 3, begin=1, finish=5),
        d_max=brn.schedules.Ramp(0, 5, begin=1, finish=4),
        microbatch_size=microbatch_size,
        bias_correction=bias_correction,
    )
    layer.build(SHAPE)
    reference = mirror(
        layer,
        r_max=lambda step: np.interp(step, [1, 5], [1, 3]),
        d_max=lambda step: np.interp(step, [1, 4], [0, 5]),
    )
    clipped = []
    for step in range(7):
        x, upstream = rng.normal(step, 1 + step, (2, *SHAPE))
        done = assert_step_matches(layer, reference, x, upstream, rtol=3e-5)
        clipped.append(done.r_clipped.mean())
    assert clipped[1] == 1
    assert clipped[-1] < 1


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_bias_correction_at_the_ends_of_momentum(rng, momentum):
    """Momentum 0 keeps the last minibatch; momentum 1 stands still, corrected or not."""
    layer = brn.BatchRenormalization(momentum=momentum, bias_correction=True)
    layer.build(SHAPE)
    for x in rng.normal(3.0, 2.0, (2, *SHAPE)):
        layer(tensor(x), training=True)
    expected = x.mean((0, 1)) if momentum == 0 else np.zeros(5)
    np.testing.assert_allclose(mirror(layer).mean, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["renormalization", "normalization"])
@pytest.mark.parametrize("microbatch_size", [None, 4])
def test_float64_is_exact(rng, float64, kind, microbatch_size):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    layer = perturb(both(microbatch_size=microbatch_size, dtype=float64)[kind](), x)
    reference = mirror(layer)
    for _ in range(2):
        assert_step_matches(
            layer, reference, x, upstream, rtol=1e-10, state_rtol=1e-10, dtype=float64, how=ONCE
        )


@pytest.mark.parametrize("kind", ["renormalization", "normalization"])
def test_a_layer_in_float64_is_exact_on_float32(rng, float64, kind):
    x = rng.normal(2.0, 3.0, SHAPE).astype("float32")
    layer = perturb(both(dtype=float64)[kind](), x)
    reference = mirror(layer)
    for training in (True, False):
        expected = reference.update(x).y if training else reference.inference(x)
        y = layer(tensor(x), training=training)
        assert keras.backend.standardize_dtype(y.dtype) == "float64"
        np.testing.assert_allclose(numpy(y), expected, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(mirror(layer).mean, reference.mean, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(mirror(layer).spread, reference.spread, rtol=1e-10)


@pytest.mark.parametrize("how", WAYS[1:])
@pytest.mark.parametrize("kind", ["renormalization", "normalization"])
@pytest.mark.parametrize("microbatch_size", [None, 4])
def test_compiled(rng, how, kind, microbatch_size):
    x, upstream = rng.normal(2.0, 3.0, (2, *SHAPE))
    layer = perturb(both(microbatch_size=microbatch_size)[kind](), x)
    assert_step_matches(layer, mirror(layer), x, upstream, how=how)


@pytest.mark.parametrize("kind", ["renormalization", "normalization"])
@pytest.mark.parametrize(("shape", "axis"), [(SHAPE, -1), ((6, 2, 5, 2), 2)])
def test_inference(rng, kind, shape, axis):
    x = rng.normal(2.0, 3.0, shape)
    layer = perturb(both(axis=axis, microbatch_size=4)[kind](), x)
    reference = mirror(layer)
    np.testing.assert_allclose(
        numpy(layer(tensor(x), training=False)), reference.inference(x), rtol=1e-5, atol=1e-5
    )
