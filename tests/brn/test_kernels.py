"""The fast kernels: the plain functions' numbers, no more memory, and when they serve."""

import functools

import numpy as np
import pytest
from harness import BACKEND, WAYS, mirror, numpy, perturb, tensor, training_pass
from keras import ops

import brn
from brn import kernels
from brn.kernels import plain
from experiments.speed.subjects import held_for_backward

PLAIN = kernels.Kernel(plain.moments, plain.normalize)
SHAPES = {
    "channels last": (1, 24, 5, 1),
    "one example": (1, 1, 5, 1),
    "one channel": (1, 24, 1, 1),
    "channels first": (1, 6, 5, 4),
    "one example, channels first": (1, 1, 5, 24),
    "groups": (3, 8, 5, 1),
    "groups, channels first": (3, 2, 5, 4),
    "groups of one": (6, 1, 5, 1),
    "many elements": (1, 640, 3, 1),
}
X, GAMMA, BETA = range(3)


@pytest.fixture(params=SHAPES)
def shape(request):
    """Shapes of grouped activations."""
    return SHAPES[request.param]


def draw(rng, shape):
    """Activations of groups and channels with distributions of their own; gamma and beta."""
    groups, _, channels, _ = shape
    mean, deviation = rng.normal(size=(2, groups, 1, channels, 1))
    x = mean + (1 + np.abs(deviation)) * rng.normal(size=shape)
    gamma, beta = rng.normal(size=(2, 1, 1, channels, 1))
    return [value.astype("float32") for value in (x, gamma, beta)]


def apply(kernel, rng, x, gamma, beta):
    """The output of a kernel for random, constant r and d."""
    mu_B, variance_B, _ = kernel.moments(x)
    sigma_B = ops.sqrt(variance_B + 1e-3)
    statistics = (x.shape[0], 1, x.shape[2], 1)
    r, d = tensor(rng.uniform(0.5, 2, statistics)), tensor(rng.normal(size=statistics))
    return kernel.normalize(x, mu_B, sigma_B, r, d, gamma, beta)


def at_once(function):
    """On JAX, compiled: operation by operation, every shape would compile each one by itself."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def gradients(function, values, argument=slice(None)):
    """The gradients of a scalar function of several tensors, differentiable themselves."""
    if BACKEND == "jax":
        import jax

        return at_once(jax.grad(lambda values: function(*values)))(list(values))[argument]
    if BACKEND == "torch":
        import torch

        values = [v if v.requires_grad else v.detach().requires_grad_() for v in values]
        return torch.autograd.grad(
            function(*values), values, create_graph=True, materialize_grads=True
        )[argument]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    return tape.gradient(result, values, unconnected_gradients="zero")[argument]


def assert_close(got, expected, rtol=2e-5):
    got, expected = numpy(got), numpy(expected)
    scale = max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * scale)


def both(rng, of_kernel):
    """A result of the fast kernel and of the plain one, with the same random numbers."""
    seed = rng.integers(1000)
    return [of_kernel(k, np.random.default_rng(seed)) for k in (kernels.FAST, PLAIN)]


class TestAgainstThePlainFunctions:
    def test_moments(self, rng, shape):
        x = draw(rng, shape)[0]
        fast, slow = (at_once(kernel.moments)(tensor(x)) for kernel in (kernels.FAST, PLAIN))
        assert_close(fast.mean - 0.5, slow.mean - 0.5)
        assert_close(fast.variance, slow.variance)
        assert_close(fast.mean - 0.0, x.mean((1, 3), keepdims=True))
        assert fast.count is None
        assert set(numpy(slow.count).ravel()) == {shape[1] * shape[3]}

    @pytest.mark.parametrize("offset", [1e3, -1e6])
    @pytest.mark.parametrize("compiled", [False, True] if BACKEND == "jax" else [False])
    def test_means_far_from_zero(self, rng, shape, offset, compiled):
        x = (offset + rng.normal(size=shape)).astype("float32").astype("float64")
        moments = kernels.FAST.moments
        fast = (at_once(moments) if compiled else moments)(tensor(x))
        np.testing.assert_allclose(
            numpy(fast.mean - offset), (x - offset).mean((1, 3), keepdims=True), atol=1e-5
        )
        variance = x.var((1, 3), keepdims=True)
        np.testing.assert_allclose(numpy(fast.variance), variance, rtol=1e-5, atol=1e-7)

    def test_one_value_far_from_all_others(self):
        """Where the sums are shifted by a part of the values, this is the part that misleads."""
        x = np.zeros((1, 64, 2, 1))
        x[0, 0] = 1e4
        fast = at_once(kernels.FAST.moments)(tensor(x))
        np.testing.assert_allclose(numpy(fast.mean - 0.0), 1e4 / 64, rtol=1e-6)
        np.testing.assert_allclose(numpy(fast.variance), x.var((1, 3), keepdims=True), rtol=1e-5)

    def test_a_channel_of_nan_does_not_hide_one_that_is_far_from_zero(self, rng):
        x = (1e6 + rng.normal(size=(1, 64, 2, 1))).astype("float32").astype("float64")
        variance = x.var((1, 3))[0, 1]
        x[:, :, 0] = np.nan
        fast = at_once(kernels.FAST.moments)(tensor(x))
        np.testing.assert_allclose(numpy(fast.variance)[0, 0, 1, 0], variance, rtol=1e-5)

    def test_constant_channels_have_no_variance(self, shape):
        x = np.broadcast_to(np.resize([0.0, 7.0, -0.1, 1e6, 3.3], (shape[2], 1)), shape)
        fast = at_once(kernels.FAST.moments)(tensor(x))
        assert (numpy(fast.variance) >= 0).all()
        np.testing.assert_allclose(numpy(fast.variance), 0, atol=1e-12)

    def test_moments_have_no_gradient(self, rng):
        def spread(x):
            return ops.sum(kernels.FAST.moments(x).variance) + 0.0 * ops.sum(x)

        (dx,) = gradients(spread, [tensor(rng.normal(size=(1, 8, 3, 1)))])
        np.testing.assert_array_equal(numpy(dx), np.zeros((1, 8, 3, 1)))

    def test_output(self, rng, shape):
        values = [tensor(value) for value in draw(rng, shape)]

        def output(kernel, rng):
            return at_once(functools.partial(apply, kernel, rng))(*values)

        assert_close(*both(rng, output))

    def test_numbers_in_place_of_gamma_and_beta(self, rng, shape):
        x = tensor(draw(rng, shape)[0])

        def output(kernel, rng):
            @at_once
            def run(x):
                mu_B, variance_B, _ = kernel.moments(x)
                return kernel.normalize(x, mu_B, ops.sqrt(variance_B + 1e-3), 1.0, 0.0, 1.0, 0.0)

            return run(x)

        assert_close(*both(rng, output))

    def test_gradients(self, rng, shape):
        values = [tensor(value) for value in draw(rng, shape)]
        upstream = tensor(rng.normal(size=shape))

        def all_gradients(kernel, rng):
            return gradients(lambda *v: ops.sum(upstream * apply(kernel, rng, *v)), values)

        for fast, slow in zip(*both(rng, all_gradients), strict=True):
            assert_close(fast, slow, rtol=1e-4)

    @pytest.mark.parametrize("first", [X, GAMMA])
    def test_gradients_of_gradients(self, rng, shape, first):
        values = [tensor(value) for value in draw(rng, shape)]
        upstream = tensor(rng.normal(size=shape))
        weights = tensor(rng.normal(size=values[first].shape))

        def second(kernel, rng):
            seed = rng.integers(1000)

            def once(*v):
                rng = np.random.default_rng(seed)
                return ops.sum(upstream * ops.square(apply(kernel, rng, *v)))

            return gradients(
                lambda *v: ops.sum(weights * gradients(once, v, first)), values, slice(None)
            )

        for fast, slow in zip(*both(rng, second), strict=True):
            assert_close(fast, slow, rtol=1e-3)

    @pytest.mark.skipif(BACKEND != "jax", reason="only JAX differentiates forwards")
    def test_forward_derivatives_and_vectorization(self, rng, shape):
        import jax

        values = [tensor(value) for value in draw(rng, shape)]
        tangents = [tensor(rng.normal(size=value.shape)) for value in values]
        stacked = [ops.stack([value, 2 * value]) for value in tangents]

        def derivative(kernel, rng):
            function = functools.partial(apply, kernel, rng)
            return jax.jit(lambda v, t: jax.jvp(function, v, t)[1])(values, tangents)

        def of_two(kernel, rng):
            seed = rng.integers(1000)

            def run(v, t):
                function = functools.partial(apply, kernel, np.random.default_rng(seed))
                return jax.jvp(function, v, t)[1]

            return jax.jit(jax.vmap(run, in_axes=(None, 0)))(values, stacked)

        assert_close(*both(rng, derivative), rtol=1e-4)
        assert_close(*both(rng, of_two), rtol=1e-4)


@pytest.mark.skipif(BACKEND != "jax", reason="only XLA has barriers")
def test_no_barrier_keeps_what_is_around_from_being_fused(rng):
    import jax

    values = [tensor(value) for value in draw(rng, SHAPES["channels last"])]

    def loss(*values):
        return ops.sum(ops.relu(apply(kernels.FAST, rng, *values)))

    program = jax.jit(jax.grad(loss, argnums=(X, GAMMA, BETA))).lower(*values).as_text()
    assert "optimization_barrier" not in program


@pytest.mark.skipif(BACKEND == "tensorflow", reason="there the plain functions serve masks")
class TestMasks:
    """The fast kernel with a mask: the plain functions' numbers."""

    @pytest.fixture(params=["channels last", "one example", "groups, channels first"])
    def shape(self, request):
        return SHAPES[request.param]

    @pytest.fixture(params=["small", "of every element"])
    def valid(self, rng, shape, request):
        groups, elements, _, _ = shape
        size = shape if request.param == "of every element" else (groups, elements, 1, 1)
        valid = rng.random(size) < 0.6
        valid[-1] &= groups == 1  # a group in which nothing counts
        return tensor(valid, "bool")

    def masked(self, valid):
        """The two kernels, with this mask."""
        fast = kernels.select(tensor(np.zeros(valid.shape)), valid)
        return fast, kernels.Kernel(functools.partial(plain.moments, valid=valid), plain.normalize)

    def apply(self, kernel, rng, x, gamma, beta):
        """As a layer does: a group in which nothing counts takes the averages."""
        mu_B, variance_B, count = kernel.moments(x)
        counts = count > 0
        sigma_B = ops.where(counts, ops.sqrt(variance_B + 1e-3), 2.0)
        r, d = (tensor(rng.uniform(0.5, 2, counts.shape)) for _ in range(2))
        return kernel.normalize(x, mu_B.where(counts, 0.5), sigma_B, r, d, gamma, beta)

    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_moments(self, rng, shape, valid, offset):
        x = (offset + rng.normal(size=shape)).astype("float32")
        there = np.broadcast_to(numpy(valid) > 0, shape)
        x = np.where(there, x, np.nan)
        fast, slow = (at_once(kernel.moments)(tensor(x)) for kernel in self.masked(valid))
        np.testing.assert_array_equal(numpy(fast.count), there.sum((1, 3), keepdims=True))
        np.testing.assert_array_equal(numpy(slow.count), numpy(fast.count))
        counts = numpy(fast.count) > 0
        for got, expected in (
            (fast.mean - offset, slow.mean - offset),
            (fast.variance, slow.variance),
        ):
            assert_close(numpy(got)[counts], numpy(expected)[counts])

    def test_gradients_and_their_gradients(self, rng, shape, valid):
        values = [tensor(value) for value in draw(rng, shape)]
        upstream, weights = (tensor(rng.normal(size=shape)) for _ in range(2))
        seed = rng.integers(1000)
        results = []
        for kernel in self.masked(valid):

            def once(*v, kernel=kernel):
                y = self.apply(kernel, np.random.default_rng(seed), *v)
                return ops.sum(upstream * ops.square(y))

            def twice(*v, once=once):
                return ops.sum(weights * gradients(once, v, X))

            results.append([*gradients(once, values), *gradients(twice, values)])
        for number, (fast, slow) in enumerate(zip(*results, strict=True)):
            assert_close(fast, slow, rtol=1e-4 if number < 3 else 1e-3)

    def test_nothing_that_is_masked_gets_into_other_gradients(self, rng, shape, valid):
        there = np.broadcast_to(numpy(valid) > 0, shape)
        x, gamma, beta = draw(rng, shape)
        upstream = np.where(there, rng.normal(size=shape), 0)
        fast, _ = self.masked(valid)

        def dx(filling):
            def loss(x):
                y = self.apply(fast, np.random.default_rng(0), x, tensor(gamma), tensor(beta))
                return ops.sum(ops.where(valid, tensor(upstream) * y, 0.0))

            return numpy(gradients(loss, [tensor(np.where(there, x, filling))])[X])

        assert_close(dx(1e30)[there], dx(0.0)[there])


class TestSelection:
    """Which kernel a layer takes, seen from inside."""

    @pytest.fixture
    def chosen(self, monkeypatch):
        """The list of kernels that layers have taken."""
        taken, select = [], kernels.select

        def spy(*arguments):
            chosen = select(*arguments)
            function = getattr(chosen.moments, "func", chosen.moments)
            taken.append("fast" if function is kernels.FAST.moments else "plain")
            return chosen

        monkeypatch.setattr(kernels, "select", spy)
        return taken

    @pytest.mark.parametrize("how", WAYS)
    @pytest.mark.parametrize("build", [brn.BatchRenormalization, brn.BatchNormalization])
    def test_the_fast_one_by_default(self, rng, chosen, build, how):
        x = rng.normal(size=(6, 2, 5))
        training_pass(build(), x, x, how=how)
        assert set(chosen) == {"fast"}

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
    def test_the_fast_one_in_half_precision(self, rng, chosen, dtype):
        brn.BatchRenormalization(dtype=dtype)(
            tensor(rng.normal(size=(6, 5)), "float16"), training=True
        )
        assert chosen == ["fast"]

    @pytest.mark.parametrize(("microbatch_size", "calls"), [(None, 1), (2, 1), (9, 1), (4, 2)])
    @pytest.mark.parametrize("axis", [1, -1])
    def test_the_fast_one_for_microbatches_the_smaller_last_one_by_itself(
        self, rng, chosen, microbatch_size, calls, axis
    ):
        layer = brn.BatchRenormalization(axis=axis, microbatch_size=microbatch_size)
        layer(tensor(rng.normal(size=(6, 5, 2))), training=True)
        assert chosen == calls * ["fast"]

    def test_the_fast_one_for_masks_but_on_tensorflow(self, rng, chosen):
        x = tensor(rng.normal(size=(6, 2, 5)))
        brn.BatchRenormalization()(x, training=True, mask=tensor(np.ones((6, 2)), "bool"))
        assert chosen == ["plain" if BACKEND == "tensorflow" else "fast"]

    def test_the_plain_one_for_masks_on_a_backend_without_kernels(self, rng, monkeypatch):
        x = tensor(rng.normal(size=(6, 2, 5)))
        valid = tensor(rng.random((6, 2)) < 0.7, "bool")
        layers = [brn.BatchRenormalization(), brn.BatchRenormalization()]
        expected = layers[0](x, training=True, mask=valid)
        monkeypatch.setattr(kernels, "_fast", plain)
        monkeypatch.setattr(kernels, "FAST", PLAIN)
        assert_close(layers[1](x, training=True, mask=valid), expected)

    def test_the_plain_one_for_synchronized_statistics(self, rng, chosen):
        layer = brn.BatchRenormalization(synchronized=True)
        layer(tensor(rng.normal(size=(6, 5))), training=True)
        assert chosen == ["plain"]

    def test_none_for_inference(self, rng, chosen):
        brn.BatchRenormalization()(tensor(rng.normal(size=(6, 5))), training=False)
        assert chosen == []

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="the fused primitives know no float64")
    def test_the_plain_one_for_float64(self, rng, chosen):
        brn.BatchRenormalization(dtype="float64")(
            tensor(rng.normal(size=(6, 5)), "float64"), training=True
        )
        assert chosen == ["plain"]

    @pytest.mark.filterwarnings("ignore")  # from inside Dynamo
    @pytest.mark.skipif(BACKEND != "torch", reason="torch.compile")
    def test_the_plain_one_under_torch_compile(self, rng, chosen):
        import torch

        x, upstream = rng.normal(2.0, 3.0, (2, 6, 2, 5))
        layer = perturb(brn.BatchRenormalization(r_max=2.0, d_max=1.5), x)
        reference = mirror(layer)
        expected = reference.forward(x).y, reference.backward(x, upstream)[0]
        torch._dynamo.reset()
        compiled = torch.compile(
            lambda x: layer(x, training=True), backend="aot_eager", fullgraph=True
        )
        x = tensor(x).detach().requires_grad_()
        y = compiled(x)
        (dx,) = torch.autograd.grad(y, x, tensor(upstream))
        assert_close(y.detach(), expected[0])
        assert_close(dx, expected[1])
        assert "plain" in chosen


@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere, sizes are known when it matters")
class TestUnknownBatchSize:
    """As `fit` traces on TensorFlow: whether microbatches divide the batch turns out later."""

    @pytest.mark.parametrize("jit_compile", [False, True])
    @pytest.mark.parametrize("build", [brn.BatchRenormalization, brn.BatchNormalization])
    def test_one_trace_for_all_sizes(self, rng, build, jit_compile):
        """Output, gradient and state are those of a known size; an empty batch moves nothing."""
        import tensorflow as tf

        known, unknown = (
            perturb(build(momentum=0.5, microbatch_size=3), np.random.default_rng(0).random((6, 5)))
            for _ in range(2)
        )
        run = self.once(unknown)
        run = tf.function(run, [tf.TensorSpec([None, 5])] * 2, jit_compile=jit_compile)
        for batch in (6, 5, 2, 0):
            x, upstream = rng.normal(2.0, 3.0, (2, batch, 5)).astype("float32")
            expected = self.once(known)(tensor(x), tensor(upstream))
            for value, wanted in zip(run(x, upstream), expected, strict=True):
                assert_close(value, wanted, rtol=1e-4)
            for value, wanted in zip(unknown.get_weights(), known.get_weights(), strict=True):
                np.testing.assert_allclose(value, wanted, rtol=1e-5)

    def test_gradient_of_the_gradient(self, rng):
        import tensorflow as tf

        layer = brn.BatchNormalization(microbatch_size=3)
        layer.build((None, 5))

        def twice(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                _, dx = self.once(layer)(x, x)
                total = tf.reduce_sum(dx**2)
            return tape.gradient(total, x)

        x = tensor(rng.normal(size=(6, 5)))
        assert_close(tf.function(twice, [tf.TensorSpec([None, 5])])(x), twice(x), rtol=1e-4)

    @staticmethod
    def once(layer):
        import tensorflow as tf

        def run(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
                loss = tf.reduce_sum(upstream * y**2)
            return y, tape.gradient(loss, x)

        return run


@pytest.mark.parametrize("microbatch_size", [None, 8])
@pytest.mark.parametrize("build", [brn.BatchRenormalization, brn.BatchNormalization])
def test_what_is_kept_for_the_backward_pass(build, microbatch_size):
    """`x`, and no other tensor of its size."""
    layer = build(microbatch_size=microbatch_size)
    assert 1.0 <= held_for_backward(layer, (64, 25, 3)) <= 1.1
