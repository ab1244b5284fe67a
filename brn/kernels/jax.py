"""What only JAX can do."""


def replica_sum(total):
    """Returns `total`: under `jax.jit` a sum already spans all shards of a distributed batch."""
    return total
