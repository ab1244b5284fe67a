"""What the tests need of the three backends, behind one signature; and perturbed layers."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops
from reference import Reference

import brn

BACKEND = keras.backend.backend()
WAYS = {"tensorflow": ("eager", "graph", "xla"), "jax": ("eager", "jit"), "torch": ("eager",)}[
    BACKEND
]
"""The ways in which `training_pass` can run a layer on this backend."""

ONCE = "jit" if BACKEND == "jax" else "eager"
"""The cheapest way to run a shape once: JAX compiles operation by operation, or all at once."""

SHAPE = (6, 2, 5)
"""The inputs of most tests, so that JAX has its operations compiled after the first of them."""

PATTERNS = ((1.2, 0.3), (5.0, 0.2), (0.2, -0.1), (1.1, 4.0), (0.9, -4.0))
"""sigma_B / sigma and (mu_B - mu) / sigma of the channels of `perturb`, in turn."""


@dataclasses.dataclass
class Pass:
    """The output of a layer, and its gradients given the gradient of the output; numpy arrays."""

    y: np.ndarray
    dx: np.ndarray
    dgamma: np.ndarray | None
    dbeta: np.ndarray | None


def numpy(tensor):
    """Any tensor or variable, of any floating type, as float64 numpy."""
    tensor = ops.convert_to_tensor(tensor)
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = ops.cast(tensor, "float32")
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)


def tensor(value, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(value), dtype=dtype)


def training_pass(layer, x, upstream, mask=None, training=True, how="eager", dtype="float32"):
    """Run `layer` once, forward, backward and update, on the backend the tests run on."""
    x, arguments = tensor(x, dtype), {"training": training}
    if mask is not None:
        arguments["mask"] = tensor(mask, "bool")
    if not layer.built:
        layer.build(x.shape)
    y, gradients = _DIFFERENTIATE[BACKEND](layer, x, np.asarray(upstream), arguments, how)
    names = [variable.name for variable in layer.trainable_variables]
    weights = {name: numpy(g) for name, g in zip(names, gradients[1:], strict=True)}
    return Pass(numpy(y), numpy(gradients[0]), weights.get("gamma"), weights.get("beta"))


def _tensorflow(layer, x, upstream, arguments, how):
    import tensorflow as tf

    def run(x, upstream, arguments):
        weights = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **arguments)
        return y, tape.gradient(y, [x, *weights], output_gradients=tf.cast(upstream, y.dtype))

    if how != "eager":
        training = arguments.pop("training")
        eager = run

        @tf.function(jit_compile=how == "xla")
        def run(x, upstream, arguments):
            return eager(x, upstream, {"training": training, **arguments})

    return run(x, upstream, arguments)


def _jax(layer, x, upstream, arguments, how):
    training = arguments.pop("training")
    trainable = [variable.value for variable in layer.trainable_variables]
    non_trainable = [variable.value for variable in layer.non_trainable_variables]
    run = _jax_step(layer, training, how)
    y, gradients, state = run(trainable, non_trainable, x, upstream, arguments)
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        variable.assign(value)
    return y, gradients


@functools.lru_cache(maxsize=4)
def _jax_step(layer, training, how):
    import jax

    def run(trainable, non_trainable, x, upstream, arguments):
        def forward(x, trainable):
            return layer.stateless_call(trainable, non_trainable, x, training=training, **arguments)

        y, pull_back, state = jax.vjp(forward, x, trainable, has_aux=True)
        dx, dtrainable = pull_back(upstream.astype(y.dtype))
        return y, [dx, *dtrainable], state

    return jax.jit(run) if how == "jit" else run


def _torch(layer, x, upstream, arguments, how):
    import torch

    x = x.detach().requires_grad_(True)
    weights = [variable.value for variable in layer.trainable_variables]
    y = layer(x, **arguments)
    return y, torch.autograd.grad(y, [x, *weights], torch.as_tensor(upstream).to(y.dtype))


_DIFFERENTIATE = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def moments(x, axis=-1, epsilon=1e-3):
    """The exact `(mu_B, sigma_B)` of every channel of `x`."""
    x = np.moveaxis(np.asarray(x, np.float64), axis, -1).reshape(-1, np.shape(x)[axis])
    return x.mean(0), np.sqrt(epsilon + x.var(0))


def perturb(layer, x, seed=0):
    """Build `layer` for `x` and set every weight off its initial value.

    The state is such that, with bounds like 2 and 1.5, the first channel clips nothing, the next
    two clip r from above and from below, and the last two d; more channels repeat the pattern.
    """
    rng = np.random.default_rng(seed)
    if not layer.built:
        layer.build(np.shape(x))
    mu_B, sigma_B = moments(x, layer.axis, layer.epsilon)
    ratio, shift = np.resize(PATTERNS, (len(mu_B), 2)).T
    sigma = sigma_B / ratio
    layer.moving_mean.assign(mu_B - shift * sigma)
    if isinstance(layer, brn.BatchRenormalization):
        layer.moving_stddev.assign(sigma)
    else:
        layer.moving_variance.assign(sigma**2)
    if layer.gamma is not None:
        layer.gamma.assign(rng.uniform(0.5, 1.5, len(mu_B)) * rng.choice([-1, 1], len(mu_B)))
    if layer.beta is not None:
        layer.beta.assign(rng.normal(size=len(mu_B)))
    return layer


def mirror(layer, r_max=None, d_max=None):
    """The reference with the weights and the arguments of a built `layer`.

    Bounds that are not numbers are given here, as functions of the step.
    """
    channels = len(numpy(layer.moving_mean))
    arguments = {
        "gamma": np.ones(channels) if layer.gamma is None else numpy(layer.gamma),
        "beta": np.zeros(channels) if layer.beta is None else numpy(layer.beta),
        "mean": numpy(layer.moving_mean),
        "axis": layer.axis,
        "epsilon": layer.epsilon,
        "momentum": layer.momentum,
        "microbatch_size": layer.microbatch_size,
    }
    if not isinstance(layer, brn.BatchRenormalization):
        spread = numpy(layer.moving_variance)
        return Reference(spread=spread, renormalizes=False, **arguments)
    config = layer.get_config()
    return Reference(
        spread=numpy(layer.moving_stddev),
        step=int(numpy(layer.step)),
        r_max=config["r_max"] if r_max is None else r_max,
        d_max=config["d_max"] if d_max is None else d_max,
        bias_correction=layer.bias_correction,
        **arguments,
    )


def state(layer):
    """The statistics of `layer`: mean and spread, float64."""
    if isinstance(layer, brn.BatchRenormalization):
        return numpy(layer.moving_mean), numpy(layer.moving_stddev)
    return numpy(layer.moving_mean), numpy(layer.moving_variance)


def assert_step_matches(
    layer, reference, x, upstream, mask=None, rtol=1e-5, state_rtol=1e-5, dtype="float32", **how
):
    """One training step of both agrees in output, gradients and state; returns the reference's."""
    dx, dgamma, dbeta = reference.backward(x, upstream, mask)
    expected = reference.update(x, mask)
    got = training_pass(layer, x, upstream, mask, dtype=dtype, **how)
    mean, spread = state(layer)
    for name, value, wanted, tolerance in (
        ("y", got.y, expected.y, rtol),
        ("dx", got.dx, dx, rtol),
        ("dgamma", got.dgamma, dgamma, rtol),
        ("dbeta", got.dbeta, dbeta, rtol),
        ("moving_mean", mean, reference.mean, state_rtol),
        ("moving spread", spread, reference.spread, state_rtol),
    ):
        if value is not None:
            atol = tolerance * max(1.0, np.nanmax(np.abs(wanted)))
            np.testing.assert_allclose(value, wanted, tolerance, atol, err_msg=name)
    if isinstance(layer, brn.BatchRenormalization):
        assert int(numpy(layer.step)) == reference.step
    return expected
