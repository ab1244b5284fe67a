"""The devices of a group of processes: one training step on all of them, with one all-reduce.

A step's minibatches are dealt out to the devices in order, as many to each. Where a device has
several it takes them one after another inside the step: gradients, and what the averages would
become, are added up, and then weights, averages and step counts move once, as with a device for
each minibatch. Groups of examples lie within a minibatch, so statistics never leave a device.

JAX and `keras.distribution.DataParallel` do the work. Nothing here is imported by a process that
trains alone.
"""

import os

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import NamedSharding, PartitionSpec

from experiments.training.group import START, Group, divisors
from experiments.training.lines import detour
from experiments.training.watch import STUCK

UNROLLED = ("cpu",)
"""Where a device's minibatches are taken one after another without a loop: inside of one, XLA
computes convolutions many times slower on CPUs."""

_ALL = "minibatches"


class Devices:
    """All devices of a group of processes; made before anything else uses JAX.

    Args:
        group: the processes.

    Attributes:
        number: of devices.
        distribution: of Keras; what is built in its scope is on all of them.
    """

    def __init__(self, group: Group):
        # Who is lost is the group's to find and to say, and so is what to do at SIGTERM. JAX would
        # end a process without a word, as soon as its connection to process 0 ends.
        jax.config.update("jax_enable_recoverability", True)
        jax.config.update("jax_enable_preemption_service", False)
        host, port = group.place.host, group.free_port
        if group.rank:
            host, port = "127.0.0.1", detour(host, port)
        group.everyone("imported")  # on a busy machine that takes some longer than `START`
        jax.distributed.initialize(
            f"{host}:{port}",
            group.size,
            group.rank,
            local_device_ids=_local_device(group.place.local),
            cluster_detection_method="deactivate",
            initialization_timeout=int(START),
            heartbeat_timeout_seconds=int(2 * STUCK),
        )
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        self.number = len(devices)
        self.group = group
        self.distribution = keras.distribution.DataParallel(
            device_mesh=keras.distribution.DeviceMesh(
                (len(devices),), [_ALL], [f"{d.platform}:{d.id}" for d in devices]
            ),
            auto_shard_dataset=False,
        )
        self._connect()

    def _connect(self):
        """Lets all devices exchange a number.

        Gloo wants the first exchange to begin within 30 seconds in all processes; a step of
        training begins when a process has compiled it, however long that takes.
        """
        mesh = self.distribution.device_mesh.backend_mesh
        dealt = NamedSharding(mesh, PartitionSpec(_ALL))
        numbers = jax.make_array_from_callback((self.number,), dealt, lambda _: np.ones(1))
        exchange = jax.shard_map(
            lambda number: jax.lax.psum(number, _ALL),
            mesh=mesh,
            in_specs=PartitionSpec(_ALL),
            out_specs=PartitionSpec(),
        )
        exchange = jax.jit(exchange).lower(numbers).compile()
        self.group.everyone("compiled")
        exchange(numbers).block_until_ready()

    def check(self, workers: int) -> None:
        """Raises a `ValueError` where minibatches cannot be dealt out, as many to each device."""
        if workers % self.number:
            raise ValueError(
                f"Expected a number of devices that divides the {workers} minibatches of a step: "
                f"{divisors(workers)}. Received: {self.number} devices of {self.group.size} "
                "processes"
            )

    def leave(self) -> None:
        """Parts from the others; process 0 last, as JAX ends those whom its coordinator leaves."""
        if self.group.rank:
            jax.distributed.shutdown()
        self.group.leave()
        if not self.group.rank:
            jax.distributed.shutdown()

    def described(self) -> dict:
        """Returns processes, devices and cores for a run's environment."""
        cores = {}
        for peer in self.group.peers:
            cores.setdefault(peer["host"], set()).update(peer["cores"])
        return {
            "processes": self.group.size,
            "devices": self.number,
            "cores": sum(map(len, cores.values())),
        }

    @staticmethod
    def local_values(variables: list[keras.Variable]) -> list[jax.Array]:
        """Returns values that every device has, as arrays of this process's first device."""
        return [variable.value.addressable_data(0) for variable in variables]

    def shared(self, model: keras.Model, minibatch: int) -> keras.Model:
        """Returns a model on all devices, of the same layers, that trains minibatch by minibatch.

        Args:
            model: built inside `distribution.scope()`.
            minibatch: examples of one.
        """
        return _Shared(self.distribution.device_mesh.backend_mesh, minibatch, model)


def _local_device(local):
    """Returns the one device of a process that a launcher numbers on its host, else `None`: all.

    Where the launcher shows each process one device only, that is the one.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if local is None or visible.count(",") < local:
        return None
    return [local]


class _Shared(keras.Model):
    """A functional model whose step takes each device's minibatches one after another."""

    def __init__(self, mesh, minibatch, model):
        super().__init__(model.inputs, model.outputs, name=model.name)
        self._mesh, self._minibatch = mesh, minibatch

    def train_step(self, state, data):
        trainable, non_trainable, optimizer, metrics = state
        images, labels = data[:2]
        everywhere, dealt = PartitionSpec(), PartitionSpec(_ALL)
        step = jax.shard_map(
            self._on_a_device,
            mesh=self._mesh,
            in_specs=(everywhere, everywhere, dealt, dealt),
            out_specs=everywhere,
            check_vma=False,
        )
        gradients, non_trainable, (loss, accuracy) = step(trainable, non_trainable, images, labels)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        logs = {"loss": loss, "last_loss": loss, "last_accuracy": accuracy}
        return logs, (trainable, non_trainable, optimizer, metrics)

    def _on_a_device(self, trainable, non_trainable, images, labels):
        """Returns gradients, non-trainable values and measures, means over all minibatches."""

        def minibatch(part):
            (_, (moved, measures)), gradients = jax.value_and_grad(self._loss, has_aux=True)(
                trainable, non_trainable, *part
            )
            # Whole numbers, such as step counts, are the same after each minibatch.
            counts = [value for value in moved if _is_whole(value)]
            return (gradients, [v for v in moved if not _is_whole(v)], measures), counts

        def next_minibatch(total, part):
            found, counts = minibatch(part)
            return jax.tree.map(jnp.add, total, found), counts

        parts = len(images) // self._minibatch
        if parts == 1:
            total, counts = minibatch((images, labels))
        else:
            dealt = [jnp.reshape(x, (parts, -1, *x.shape[1:])) for x in (images, labels)]
            shapes = jax.eval_shape(minibatch, [x[0] for x in dealt])[0]
            zeros = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
            unroll = parts if self._mesh.devices.flat[0].platform in UNROLLED else 1
            total, counts = jax.lax.scan(next_minibatch, zeros, dealt, unroll=unroll)
            counts = [value[-1] for value in counts]
        # One vector, so one all-reduce, whatever the number of layers.
        vector, split = ravel_pytree(total)
        gradients, means, measures = split(jax.lax.pmean(vector, _ALL) / parts)
        means, counts = iter(means), iter(counts)
        moved = [next(counts if _is_whole(value) else means) for value in non_trainable]
        return gradients, moved, measures

    def _loss(self, trainable, non_trainable, images, labels):
        logits, moved = self.stateless_call(trainable, non_trainable, images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        right = keras.metrics.sparse_categorical_accuracy(labels, logits)
        loss = jnp.mean(losses)
        return loss, (moved, (loss, jnp.mean(right)))


def _is_whole(value):
    return jnp.issubdtype(value.dtype, jnp.integer)
