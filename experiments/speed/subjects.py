"""What the benchmark times: layers, ours and others', as functions that run one pass and wait.

A *pass* is forward and backward: the output, the gradients of the input and of the weights, and
the moved statistics. A *subject* is a layer run in one mode of its backend. TensorFlow's modes are
"graph" and "xla", JAX's is "jit", PyTorch's are "channels last" and "channels first", which say
how the activations lie in memory.
"""

from collections.abc import Callable
from functools import partial
from unittest import mock

import keras
import numpy as np

import brn
from brn import kernels
from brn.kernels import plain

RENORM_CLIPPING = {"rmax": 3.0, "rmin": 1 / 3, "dmax": 5.0}
"""The paper's bounds, which Keras takes as constants."""

OURS = {
    "brn": brn.BatchRenormalization,
    "bn": brn.BatchNormalization,
}


class ByPlainFunctions(brn.BatchRenormalization):
    """The layer without the kernels made for a backend: what those are to be measured against.

    Its `call` is its own, so that on PyTorch it goes through all of Keras's `__call__`, which ours
    leaves out: 0.1 ms a pass or more.
    """

    def call(self, inputs, training=False, mask=None):
        """See `brn.BatchRenormalization.call`."""
        with mock.patch.object(kernels, "FAST", kernels.Kernel(plain.moments, plain.normalize)):
            return super().call(inputs, training=training, mask=mask)


class Empty(keras.Layer):
    """A layer that does nothing: what Keras takes to call one."""

    def call(self, inputs, training=False):
        """Returns its inputs."""
        return inputs


KERAS = {
    "Keras bn": keras.layers.BatchNormalization,
    "Keras renorm": lambda **settings: keras.layers.BatchNormalization(
        renorm=True, renorm_clipping=RENORM_CLIPPING, **settings
    ),
}
MODES = {"tensorflow": ("graph", "xla"), "jax": ("jit",), "torch": ("channels last",)}


def subjects(
    shape: tuple[int, ...], dtype: str = "float32", microbatches: bool = False
) -> dict[tuple[str, str], Callable]:
    """Returns the passes of all layers on activations of a shape, by name and mode.

    Args:
        shape: `(batch, ..., channels)`.
        dtype: of activations; the layers compute in float32 and hold their state in it.
        microbatches: whether to take our layer over microbatches of 4 too.
    """
    backend = keras.config.backend()
    x, upstream = _activations(shape, dtype)
    policy = dtype if dtype == "float32" else f"mixed_{dtype}"
    makers = {**OURS, "brn, plain": ByPlainFunctions, **KERAS}
    if backend == "torch":  # where nothing is compiled
        makers["Keras, an empty layer"] = Empty
    if microbatches:
        for name, make in (("", brn.BatchRenormalization), (", plain", ByPlainFunctions)):
            makers[f"brn, microbatches of 4{name}"] = partial(make, microbatch_size=4)
    passes = {
        (name, mode): layer_pass(make(dtype=policy), x, upstream, mode)
        for name, make in makers.items()
        for mode in MODES[backend]
    }
    if backend == "tensorflow":
        passes |= _tf_keras_passes(x, upstream)
    if backend == "torch":
        passes |= _torch_passes(x, upstream)
    return passes


def few(shape: tuple[int, ...]) -> dict[tuple[str, str], Callable]:
    """Returns the passes of our layers and of Keras's, in the backend's first mode."""
    x, upstream = _activations(shape, "float32")
    mode = MODES[keras.config.backend()][0]
    makers = {**OURS, **KERAS}
    return {(name, mode): layer_pass(make(), x, upstream, mode) for name, make in makers.items()}


def masked(shape: tuple[int, ...]) -> dict[tuple[str, str], Callable]:
    """Returns the passes of our layers and of Keras's with a mask, in the backend's first mode.

    Args:
        shape: `(batch, time, channels)`; a fifth of the time steps, drawn at random, is masked.
    """
    x, upstream = _activations(shape, "float32")
    mask = np.random.default_rng(1).random(shape[:2]) < 0.8
    mode, mask = MODES[keras.config.backend()][0], keras.ops.convert_to_tensor(mask)
    makers = {**OURS, "Keras bn": KERAS["Keras bn"]}
    return {
        (f"{name}, masked", mode): layer_pass(make(), x, upstream, mode, mask)
        for name, make in makers.items()
    }


def divided(shape: tuple[int, ...]) -> dict[tuple[str, str], Callable]:
    """Returns passes over microbatches that divide the batch, and that leave a smaller last one."""
    x, upstream = _activations(shape, "float32")
    mode = MODES[keras.config.backend()][0]
    sizes = {"divided": shape[0] // 4, "and a smaller last one": shape[0] // 4 + 1}
    return {
        (f"microbatches, {name}", mode): layer_pass(
            brn.BatchRenormalization(microbatch_size=size), x, upstream, mode
        )
        for name, size in sizes.items()
    }


def parts(shape: tuple[int, ...], microbatch_size: int | None = None) -> dict:
    """Returns what a pass of ours is made of, by name and mode, and a copy of the activations.

    The copy reads and writes them once: no pass is faster than what it reads and writes.
    """
    x, upstream = _activations(shape, "float32")
    groups = 1 if microbatch_size is None else shape[0] // microbatch_size
    grouped = keras.ops.reshape(x, (groups, -1, shape[-1], 1))
    name = "one group" if groups == 1 else f"microbatches of {microbatch_size}"
    passes = {}
    for mode in MODES[keras.config.backend()]:
        passes["copy", mode] = _forward_pass(lambda x: x + 1.0, x, mode)
        passes[f"moments, {name}", mode] = _forward_pass(kernels.FAST.moments, grouped, mode)
        passes[f"normalize and its gradient, {name}", mode] = layer_pass(
            _Normalize(groups), x, upstream, mode
        )
    return passes


class _Normalize(keras.layers.Layer):
    """The second half of the kernel alone, with statistics that are given."""

    def __init__(self, groups):
        super().__init__(name="normalize")
        self.groups = groups

    def call(self, inputs, training=False):
        x = keras.ops.reshape(inputs, (self.groups, -1, inputs.shape[-1], 1))
        ones = keras.ops.ones((self.groups, 1, x.shape[2], 1))
        mean = kernels.SplitMean(0 * ones, 0 * ones)
        y = kernels.FAST.normalize(x, mean, ones, ones, ones, ones[:1], ones[:1])
        return keras.ops.reshape(y, inputs.shape)


def _forward_pass(function, x, mode):
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        run = tf.function(function, jit_compile=mode == "xla")
        return lambda: run(x)
    if backend == "jax":
        import jax

        run = jax.jit(function)
        return lambda: jax.block_until_ready(run(x))

    def run():
        function(x)
        _wait(x)

    return run


def _wait(x):
    """Waits for the work of PyTorch on the device of a tensor."""
    import torch

    if x.is_cuda:
        torch.cuda.synchronize()


def _activations(shape, dtype):
    """Returns activations and the gradient of the output, two tensors."""
    values = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    return (
        keras.ops.convert_to_tensor(2 * values[0] + 1, dtype=dtype),
        keras.ops.convert_to_tensor(values[1], dtype=dtype),
    )


def layer_pass(layer, x, upstream, mode: str, mask=None) -> Callable[[], None]:
    """Returns a function of no arguments that runs one pass of a Keras layer and waits for it."""
    layer.build(tuple(x.shape))
    call = {"training": True} if mask is None else {"training": True, "mask": mask}
    backend = keras.config.backend()
    if backend == "tensorflow":
        return _tensorflow_pass(layer, x, upstream, mode, call)
    if backend == "jax":
        return _jax_pass(layer, x, upstream, call)
    return _torch_pass(lambda x: layer(x, **call), x, upstream, layer.trainable_variables)


def _tensorflow_pass(layer, x, upstream, mode, call):
    import tensorflow as tf

    weights = _tensors(layer.trainable_variables)

    @tf.function(jit_compile=mode == "xla")
    def run(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **call)
        return y, tape.gradient(y, [x, *weights], output_gradients=upstream)

    return lambda: run(x, upstream)


def _tensors(variables):
    """Returns what the backend differentiates by, of Keras's variables and of its own."""
    return [v.value if isinstance(v, keras.Variable) else v for v in variables]


def _jax_pass(layer, x, upstream, call):
    import jax

    @jax.jit
    def run(trainable, non_trainable, x, upstream):
        def forward(x, trainable):
            return layer.stateless_call(trainable, non_trainable, x, **call)

        y, pull_back, state = jax.vjp(forward, x, trainable, has_aux=True)
        return y, pull_back(upstream), state

    state = [[v.value for v in layer.trainable_variables]]
    state.append([v.value for v in layer.non_trainable_variables])
    return lambda: jax.block_until_ready(run(*state, x, upstream))


def _torch_pass(function, x, upstream, weights):
    import torch

    weights = _tensors(weights)

    def run():
        leaf = x.detach().requires_grad_(True)
        torch.autograd.grad(function(leaf), [leaf, *weights], upstream)
        _wait(x)

    return run


def _tf_keras_passes(x, upstream):
    """The layers of Keras 2, whose batch normalization is fused, on inputs of rank 4."""
    import tensorflow as tf
    import tf_keras

    if len(x.shape) == 2:
        x, upstream = (tf.reshape(value, (-1, 1, 1, x.shape[1])) for value in (x, upstream))
    passes = {}
    for mode in MODES["tensorflow"]:
        for name, settings in (
            ("tf_keras bn", {"fused": True}),
            ("tf_keras renorm", {"renorm": True, "renorm_clipping": RENORM_CLIPPING}),
        ):
            layer = tf_keras.layers.BatchNormalization(**settings)
            layer.build(x.shape)
            passes[name, mode] = _tensorflow_pass(layer, x, upstream, mode, {"training": True})
    return passes


def _torch_passes(x, upstream):
    """`torch.nn.BatchNorm2d`, in both layouts."""
    import torch

    if x.ndim == 2:
        x, upstream = x[:, None, None], upstream[:, None, None]
    x, upstream = x.permute(0, 3, 1, 2), upstream.permute(0, 3, 1, 2)
    passes = {}
    for mode, memory_format in (
        ("channels last", torch.channels_last),
        ("channels first", torch.contiguous_format),
    ):
        layer = torch.nn.BatchNorm2d(x.shape[1], device=x.device)
        arguments = (value.contiguous(memory_format=memory_format) for value in (x, upstream))
        weights = list(layer.parameters())
        passes["torch.nn.BatchNorm2d", mode] = _torch_pass(layer, *arguments, weights)
    return passes


def held_for_backward(layer, shape: tuple[int, ...]) -> float:
    """Returns what a layer holds from its forward to its backward pass, in sizes of its input.

    On JAX and TensorFlow it is what a forward function hands to its backward function where the
    two are compiled apart; on PyTorch, what autograd saves.
    """
    x, _ = _activations(shape, "float32")
    layer.build(shape)
    return _HELD[keras.config.backend()](layer, x) / int(np.prod(shape))


def _held_by_jax(layer, x):
    import jax

    def forward(x, trainable):
        state = [v.value for v in layer.non_trainable_variables]
        return layer.stateless_call(trainable, state, x, training=True)[0]

    _, pull_back = jax.vjp(forward, x, [v.value for v in layer.trainable_variables])
    return sum(np.size(leaf) for leaf in jax.tree.leaves(pull_back))


def _held_by_torch(layer, x):
    import torch

    held = {}

    def pack(tensor):
        held[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x.detach().requires_grad_(True), training=True)
    return sum(held.values())


def _held_by_tensorflow(layer, x):
    import tensorflow as tf

    function = tf.function(lambda x: layer(x, training=True)).get_concrete_function(x)
    # There is no public way to see the two halves of a function that is differentiated.
    forward, _ = function._delayed_rewrite_functions.forward_backward()
    y, *handed = (_origin(output) for output in forward.graph.outputs)
    held = {value.ref(): int(np.prod(value.shape)) for value in handed if value is not y}
    return sum(held.values())


def _origin(tensor):
    """Returns what a tensor of a graph shares its memory with."""
    while tensor.op.type in ("Identity", "IdentityN", "Reshape"):
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


_HELD = {"jax": _held_by_jax, "torch": _held_by_torch, "tensorflow": _held_by_tensorflow}
