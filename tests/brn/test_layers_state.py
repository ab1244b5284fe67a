"""Which weights there are, when they move, and when they must not."""

import keras
import numpy as np
import pytest
from harness import SHAPE, mirror, numpy, perturb, state, tensor, training_pass

import brn

KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "normalization": brn.BatchNormalization,
}


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of one of the two layers."""
    return KINDS[request.param]


def assert_equal_weights(got, wanted):
    for value, expected in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(value, expected)


def built(layer, shape=SHAPE):
    layer.build(shape)
    return layer


class TestWeights:
    def test_of_renormalization(self):
        layer = built(brn.BatchRenormalization())
        names = ["gamma", "beta", "moving_mean", "moving_stddev", "step"]
        assert [weight.name for weight in layer.weights] == names
        assert [weight.shape for weight in layer.weights] == [(5,)] * 4 + [()]
        assert [weight.dtype for weight in layer.weights] == ["float32"] * 4 + ["int32"]
        assert [weight.name for weight in layer.trainable_weights] == names[:2]
        assert [weight.name for weight in layer.non_trainable_weights] == names[2:]

    def test_of_normalization_are_those_of_keras(self):
        layer, theirs = built(brn.BatchNormalization()), built(keras.layers.BatchNormalization())
        for ours, wanted in zip(layer.weights, theirs.weights, strict=True):
            assert (ours.name, ours.shape, ours.dtype) == (wanted.name, wanted.shape, wanted.dtype)
            assert ours.trainable == wanted.trainable
            np.testing.assert_array_equal(numpy(ours), numpy(wanted))

    @pytest.mark.parametrize(
        ("center", "scale", "names"),
        [(False, True, ["gamma"]), (True, False, ["beta"]), (False, False, [])],
    )
    def test_without_beta_or_gamma(self, build, center, scale, names):
        layer = built(build(center=center, scale=scale))
        assert [weight.name for weight in layer.trainable_weights] == names

    def test_initial_values(self):
        constant = keras.initializers.Constant
        layer = brn.BatchRenormalization(
            gamma_initializer=constant(2.0),
            beta_initializer=constant(3.0),
            moving_mean_initializer=constant(4.0),
            moving_variance_initializer=constant(25.0),
        )
        values = [numpy(weight).flat[0] for weight in built(layer).weights]
        assert values == [2, 3, 4, 5, 0]

    @pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
    def test_statistics_are_float32_in_half_precision(self, build, policy):
        for weight in built(build(dtype=policy)).non_trainable_weights:
            assert weight.dtype == ("int32" if weight.name == "step" else "float32")

    def test_statistics_are_float64_in_float64(self, build, float64):
        for weight in built(build(dtype=float64)).weights:
            assert weight.dtype == ("int32" if weight.name == "step" else "float64")

    def test_regularizers_and_constraints(self, build):
        layer = built(
            build(
                gamma_regularizer=keras.regularizers.L1(0.5),
                beta_regularizer="l2",
                gamma_constraint="non_neg",
                beta_constraint=keras.constraints.MaxNorm(2),
            )
        )
        assert sum(map(numpy, layer.losses)) == pytest.approx(5 * 0.5)
        assert isinstance(layer.gamma.constraint, keras.constraints.NonNeg)
        assert isinstance(layer.beta.constraint, keras.constraints.MaxNorm)

    def test_two_layers_share_nothing(self, build):
        initializer = keras.initializers.RandomUniform(1, 2, seed=1)
        layer = built(build(moving_mean_initializer=initializer))
        other = built(build(moving_mean_initializer=initializer))
        layer(tensor(np.ones(SHAPE)), training=True)
        assert (numpy(layer.moving_mean) != numpy(other.moving_mean)).all()


class TestReset:
    def test_sets_statistics_and_steps_back(self, build, rng):
        layer = built(build(moving_variance_initializer=keras.initializers.Constant(4.0)))
        before = layer.get_weights()
        layer.gamma.assign(np.full(5, 7.0))
        layer(tensor(rng.normal(size=SHAPE)), training=True)
        layer.reset_statistics()
        assert_equal_weights(layer.get_weights(), [np.full(5, 7.0), *before[1:]])

    def test_needs_statistics(self, build):
        with pytest.raises(ValueError, match="no statistics yet") as error:
            build(name="fresh").reset_statistics()
        assert "Received: 'fresh', built=False" in str(error.value)


class TestWhatStandsStill:
    @pytest.mark.parametrize("training", [False, None])
    def test_outside_training(self, build, rng, training):
        x = rng.normal(size=SHAPE)
        layer = perturb(build(), x)
        before, expected = layer.get_weights(), mirror(layer).inference(x)
        arguments = {} if training is None else {"training": training}
        y = numpy(layer(tensor(3 * x), **arguments)), numpy(layer(tensor(x), **arguments))
        np.testing.assert_allclose(y[1], expected, rtol=1e-5, atol=1e-5)
        assert_equal_weights(layer.get_weights(), before)

    def test_frozen(self, build, rng):
        x = rng.normal(size=SHAPE)
        layer = perturb(build(), x)
        layer.trainable = False
        before, expected = layer.get_weights(), mirror(layer).inference(x)
        np.testing.assert_allclose(
            numpy(layer(tensor(x), training=True)), expected, rtol=1e-5, atol=1e-5
        )
        assert_equal_weights(layer.get_weights(), before)

    def test_thawed(self, build, rng):
        x, upstream = rng.normal(size=(2, *SHAPE))
        layer = perturb(build(), x)
        layer.trainable = False
        layer.trainable = True
        reference = mirror(layer)
        training_pass(layer, x, upstream)
        reference.update(x)
        np.testing.assert_allclose(state(layer), (reference.mean, reference.spread), rtol=1e-5)

    def test_frozen_from_the_start(self, build, rng):
        layer = built(build(trainable=False))
        assert layer.trainable_weights == []
        before = layer.get_weights()
        layer(tensor(rng.normal(size=SHAPE)), training=True)
        assert_equal_weights(layer.get_weights(), before)

    def test_momentum_1(self, build, rng):
        layer = perturb(build(momentum=1.0), rng.normal(size=SHAPE))
        before = state(layer)
        layer(tensor(rng.normal(size=SHAPE)), training=True)
        np.testing.assert_array_equal(state(layer), before)

    def test_stateless_call_leaves_the_layer(self, build, rng):
        """Minibatch statistics at test time, as in figure 3, without touching the layer."""
        x = rng.normal(size=SHAPE)
        layer = perturb(build(), x)
        before = layer.get_weights()
        y, moved = layer.stateless_call(
            [weight.value for weight in layer.trainable_variables],
            [weight.value for weight in layer.non_trainable_variables],
            tensor(x),
            training=True,
        )
        assert_equal_weights(layer.get_weights(), before)
        reference = mirror(layer)
        np.testing.assert_allclose(numpy(y), reference.update(x).y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(numpy(moved[0]), reference.mean, rtol=1e-5)
        np.testing.assert_allclose(numpy(moved[1]), reference.spread, rtol=1e-5)


class TestSteps:
    def test_count_the_training_calls(self, rng):
        layer = built(brn.BatchRenormalization(microbatch_size=2))
        x = tensor(rng.normal(size=SHAPE))
        for training in (True, False, True, True):
            layer(x, training=training)
        assert int(numpy(layer.step)) == 3

    def test_bounds_of_a_call_are_those_before_it_counts(self, rng):
        """The first call is step 0, at which this bound still holds r at 1."""
        layer = brn.BatchRenormalization(
            r_max=brn.schedules.Ramp(1, 3, begin=1, finish=1), d_max=0, epsilon=1e-12
        )
        x = tensor([[-10.0], [10.0]])
        spreads = [numpy(layer(x, training=True)).max() for _ in range(2)]
        np.testing.assert_allclose(spreads, [1, 3], rtol=1e-5)

    def test_clipping_bounds_are_those_of_the_next_step(self):
        layer = brn.BatchRenormalization(r_max=brn.schedules.Ramp(1, 3, 0, 4), d_max=0.5)
        layer = built(layer)
        for step, r_max in enumerate([1, 1.5, 2, 2.5, 3, 3]):
            assert [float(numpy(bound)) for bound in layer.clipping_bounds()] == [r_max, 0.5]
            assert int(numpy(layer.step)) == step
            layer(tensor(np.ones(SHAPE)), training=True)

    def test_the_default_bounds_are_the_papers(self):
        layer = built(brn.BatchRenormalization())
        for step, bounds in {
            0: (1, 0),
            5000: (1, 0),
            25_000: (2.142857, 5),
            40_000: (3, 5),
        }.items():
            layer.step.assign(step)
            got = [float(numpy(bound)) for bound in layer.clipping_bounds()]
            assert got == pytest.approx(bounds, rel=1e-6)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow reads lazily")
@pytest.mark.parametrize("microbatch_size", [None, 4])
def test_a_graph_reads_each_average_once(build, microbatch_size):
    """A second read could be moved behind the update; see `Averages` in `brn/minibatch.py`."""
    import tensorflow as tf

    layer = built(build(microbatch_size=microbatch_size))
    step = tf.function(lambda x: layer(x, training=True))
    graph = step.get_concrete_function(tf.TensorSpec(SHAPE, "float32")).graph
    captured = {internal.name: external for external, internal in graph.captures}
    moved = [op for op in graph.get_operations() if op.type == "AssignVariableOp"]
    averages = [op.inputs[0].name for op in moved if op.inputs[1].shape == SHAPE[-1:]]
    assert len(averages) == len(captured.keys() & set(averages)) == 2
    for average in averages:
        reads = [op for op in graph.get_operations() if op.type == "ReadVariableOp"]
        assert [op.inputs[0].name for op in reads].count(average) == 1
