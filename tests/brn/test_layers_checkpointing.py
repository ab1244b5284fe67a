"""Gradient checkpointing, which runs a training pass twice: as if it were once, or refused."""

import keras
import numpy as np
import pytest
from harness import BACKEND, SHAPE, numpy, perturb, tensor
from keras import ops

import brn

KINDS = {
    "renormalization": lambda **kw: brn.BatchRenormalization(r_max=2.0, d_max=1.5, **kw),
    "normalization": brn.BatchNormalization,
}


@pytest.fixture(params=KINDS)
def build(request):
    """The constructor of one of the two layers."""
    return KINDS[request.param]


if BACKEND == "tensorflow":

    def test_checkpointing_is_refused(build):
        import tensorflow as tf

        layer = perturb(build(name="ours"), np.ones(SHAPE))
        run = keras.remat(lambda x: layer(x, training=True))
        for way in (run, tf.function(run, autograph=False)):
            with pytest.raises(ValueError, match="Gradient checkpointing") as error:
                way(tensor(np.ones(SHAPE)))
            assert "Received: 'ours', called with training=True" in str(error.value)

    def test_nothing_public_tells_a_replay_from_another_pass():
        """Why it is refused: only the first pass shows, as no tape records it."""
        import tensorflow as tf

        seen = []

        def block(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                recorded = tape.gradient(tf.identity(x), x) is not None
            seen.append((recorded, tf.executing_eagerly(), tf.inside_function(), numpy(x).tolist()))
            return x * x

        x = tensor([1.0, 2.0])
        for function in (block, tf.recompute_grad(block)):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            tape.gradient(y, x)
        ordinary, first, replay = seen
        assert replay == ordinary
        assert first != ordinary

    def test_inference_may_be_checkpointed(build):
        layer = perturb(build(), np.ones(SHAPE))
        x = tensor(np.ones(SHAPE))
        np.testing.assert_array_equal(numpy(keras.remat(layer)(x)), numpy(layer(x)))

else:

    def step(layers, x, remat):
        """Gradients and state after a step of two layers, the first of which is called twice."""

        def block(x, mask):
            y = layers[0](x, training=True)
            y = ops.tanh(layers[1](y, training=True, mask=mask))
            return layers[0](y * y, training=True)

        mask = tensor(np.arange(12).reshape(6, 2) != 3, "bool")
        state = [[v for layer in layers for v in getattr(layer, name)] for name in (
            "trainable_variables", "non_trainable_variables")]  # fmt: skip
        if BACKEND == "jax":
            import jax

            @remat
            def loss(x, trainable):
                # State leaves what is checkpointed as a value: assigned, JAX would refuse it.
                mapping = zip([*state[0], *state[1]], [*trainable, *frozen], strict=True)
                with keras.StatelessScope(mapping) as scope:
                    total = ops.sum(block(x, mask) ** 3)
                return total, [scope.get_current_value(v) for v in state[1]]

            frozen = [v.value for v in state[1]]
            trainable = [v.value for v in state[0]]
            (dx, weights), moved = jax.grad(loss, (0, 1), has_aux=True)(x, trainable)
            return [dx, *weights, *moved]
        import torch

        x = x.detach().requires_grad_()
        loss = ops.sum(remat(block)(x, mask) ** 3)
        gradients = torch.autograd.grad(loss, [x, *(v.value for v in state[0])])
        return [*gradients, *state[1]]

    @pytest.mark.parametrize("microbatch_size", [None, 2])
    def test_a_replayed_pass_is_the_pass(build, rng, microbatch_size):
        x = rng.normal(2.0, 3.0, SHAPE)

        def result(remat):
            layers = [perturb(build(microbatch_size=microbatch_size), x, seed) for seed in (0, 1)]
            return step(layers, tensor(x), remat)

        for got, expected in zip(result(keras.remat), result(lambda f: f), strict=True):
            np.testing.assert_allclose(numpy(got), numpy(expected), rtol=1e-4, atol=1e-4)


if BACKEND == "torch":
    from torch.utils.checkpoint import checkpoint

    def test_a_pass_that_leaves_no_graph_is_refused(build, rng):
        layer = perturb(build(name="ours"), np.ones(SHAPE))
        x = tensor(rng.normal(size=SHAPE)).requires_grad_()
        y = checkpoint(lambda x: layer(x, training=True), x, use_reentrant=True)
        with pytest.raises(ValueError, match="use_reentrant=False") as error:
            y.sum().backward()
        assert "Received: 'ours'" in str(error.value)

    def test_nothing_is_kept_of_a_pass_that_is_done(build, rng):
        from brn.backend.torch import _passes

        layer = perturb(build(), np.ones(SHAPE))
        y = layer(tensor(rng.normal(size=SHAPE)), training=True)
        assert len(_passes[layer]) == 1
        del y
        assert len(_passes[layer]) == 0
