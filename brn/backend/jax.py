"""JAX: sizes are known while tracing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from keras import ops as ops

from brn.backend.other import TrainingPass as TrainingPass
from brn.backend.other import is_plain_call as is_plain_call
from brn.backend.other import known_finite as known_finite
from brn.backend.other import known_number as known_number
from brn.backend.other import move as move
from brn.backend.other import read as read
from brn.types import Shape, Tensor


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """See `brn.backend.other.compiled`."""
    return jax.jit(function)


def reshape(x: Tensor, shape: Shape) -> Tensor:
    """See `brn.backend.other.reshape`."""
    return jnp.reshape(x, shape)


def replica_sum(total: Tensor) -> Tensor:
    """Returns `total`, summed over the devices that `jax.shard_map` or `jax.pmap` map over.

    Under `jax.jit` alone a sum already spans all shards of a distributed batch.
    """
    devices = jax.sharding.get_abstract_mesh().manual_axes
    return lax.psum(total, devices) if devices else total


def shortcut(condition: Tensor, short: Callable[[], Any], general: Callable[[], Any]) -> Any:
    """Returns `general()`: here, sizes are known when it matters."""
    return general()
