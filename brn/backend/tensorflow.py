"""TensorFlow: variables may be read lazily, and graphs are traced without the batch size."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops as ops
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from brn.backend import other
from brn.backend.other import is_plain_call as is_plain_call
from brn.backend.other import known_finite as known_finite
from brn.backend.other import known_number as known_number
from brn.backend.other import move as move
from brn.types import Shape, Tensor


class TrainingPass(other.TrainingPass):
    """Refuses gradient checkpointing: nothing tells its replay from another pass.

    The first pass can be told: nothing that it does is recorded by any tape.
    """

    def __init__(self, layer: keras.Layer) -> None:
        one = tf.ones([])
        with tf.GradientTape() as tape:
            tape.watch(one)
            same = tf.identity(one)
        if tape.gradient(same, one) is None:
            raise ValueError(
                "Gradient checkpointing (keras.remat, tf.recompute_grad) would run a training pass "
                "again when the averages have moved, and move them twice. On TensorFlow, leave "
                "normalization layers out of it, or freeze them; on PyTorch it works. "
                f"Received: {layer.name!r}, called with training=True while no gradient is recorded"
            )


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `brn.backend.other.compiled`."""
    return tf.function(function, autograph=False, reduce_retracing=True)


def read(variables: Sequence[keras.Variable | None]) -> tuple[Tensor | None, ...]:
    """See `brn.backend.other.read`: TensorFlow would read lazily, and for `keras.ops` it may."""
    return tuple(None if each is None else tf.convert_to_tensor(each.value) for each in variables)


def reshape(x: Tensor, shape: Shape) -> Tensor:
    """See `brn.backend.other.reshape`."""
    return tf.reshape(x, shape)


def replica_sum(total: Tensor) -> Tensor:
    """Returns `total`, summed over the replicas of a `tf.distribute` strategy, differentiable."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return total
    return context.all_reduce(tf.distribute.ReduceOp.SUM, total)


def shortcut(condition: Tensor, short: Callable[[], Any], general: Callable[[], Any]) -> Any:
    """Returns `short()` where a condition holds, else `general()`, which is right in any case.

    XLA compiles for the size of one batch, so that `general` is short by itself, but compiles a
    branch on that size anew at every call.
    """
    return general() if compiled_by_xla() else tf.cond(condition, short, general)


def compiled_by_xla() -> bool:
    """Returns whether this is traced for XLA, to which a branch costs more than a subtraction."""
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )
