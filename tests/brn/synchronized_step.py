"""One training step on two devices or processes; prints the moving statistics of each layer,
with synchronized statistics and without.

Run by `test_synchronized.py` in a process of its own: a backend fixes its devices when it starts.
The batch is 0, 1, 2, 3: the first half has mean 0.5, the second 2.5, all of it 1.5.
"""

import json
import os

BACKEND = os.environ["KERAS_BACKEND"]
if BACKEND == "jax":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
elif BACKEND == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )

import keras
import numpy as np

import brn

BATCH = np.arange(4, dtype="float32").reshape(4, 1)
MODES = {"synchronized": True, "local": False}


def layers(synchronized):
    shared = {"momentum": 0.0, "epsilon": 0.0, "synchronized": synchronized}
    return [brn.BatchNormalization(**shared), brn.BatchRenormalization(**shared)]


def statistics(layer):
    names = ("moving_mean", "moving_variance", "moving_stddev")
    return {
        name: float(np.ravel(keras.ops.convert_to_numpy(getattr(layer, name)))[0])
        for name in names
        if hasattr(layer, name)
    }


def fitted(layer, **compile_options):
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile("sgd", "mse", **compile_options)
    model.fit(BATCH, BATCH, batch_size=4, verbose=0, shuffle=False)
    return statistics(layer)


def all_fitted():
    return {
        mode: [fitted(layer) for layer in layers(synchronized)]
        for mode, synchronized in MODES.items()
    }


def tensorflow():
    # One strategy for all: those of several would mix up their collective operations.
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        return all_fitted()


def jax():
    mapped = {way: [mapped_step(layer, way) for layer in layers(True)] for way in ("pmap", "shard")}
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    return {**all_fitted(), **mapped}


def mapped_step(layer, way):
    """A step on each half of the batch, by `jax.pmap` or `jax.shard_map`, and the gradient."""
    import jax
    from jax.sharding import PartitionSpec

    layer.build((None, 1))
    weights = [[v.value for v in layer.trainable_variables]]
    weights += [[v.value for v in layer.non_trainable_variables]]

    def step(half):
        def loss(half):
            y, state = layer.stateless_call(*weights, half, training=True)
            return (y**3).sum(), state

        return jax.grad(loss, has_aux=True)(half)

    if way == "pmap":
        dx, state = jax.pmap(step)(BATCH.reshape(2, 2, 1))
        state = [value[0] for value in state]
    else:
        mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        halves, whole = PartitionSpec("data"), PartitionSpec()
        mapped = jax.shard_map(step, mesh=mesh, in_specs=halves, out_specs=(halves, whole))
        dx, state = jax.jit(mapped)(BATCH)
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        variable.assign(value)
    return {**statistics(layer), "dx": np.ravel(dx).tolist()}


def torch_process(rank, folder, results):
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    half = torch.tensor(BATCH[2 * rank : 2 * rank + 2], requires_grad=True)
    for mode, synchronized in MODES.items():
        for layer in layers(synchronized):
            outputs = layer(half, training=True)
            (outputs**3).sum().backward()
            result = {**statistics(layer), "dx": half.grad.numpy().ravel().tolist()}
            results.put((rank, mode, result))
            half.grad = None
    torch.distributed.destroy_process_group()


def torch():
    import tempfile

    from torch import multiprocessing

    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        processes = multiprocessing.spawn(torch_process, (folder, results), nprocs=2, join=False)
        got = [results.get(timeout=600) for _ in range(4 * len(MODES))]
        while not processes.join():
            pass
    got.sort(key=lambda found: found[0])
    return {mode: [result for _, its, result in got if its == mode] for mode in MODES}


if __name__ == "__main__":
    print(json.dumps(globals()[BACKEND]()))
