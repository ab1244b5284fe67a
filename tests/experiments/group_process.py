"""One process of a group that trains runs of a small protocol; `test_distributed.py` starts it.

    .../group_process.py FOLDER PROTOCOL[:VARIANT] ARMS PORT PROCESSES PROCESS [STEP [SIGNAL]]

Results go to FOLDER, and there, from each process, `<arm>-<process>.npz`, the weights' averages at
the end of a run, `losses-<arm>-<process>.npy`, each step's, and `read-<process>.txt`, the indices
that it read: a line a step. With port 0 a process trains without a group. After STEP the process
sends itself SIGNAL, that of `kill -9` unless it is another; with STEP 0 once its first network is
built.

VARIANT is `float64`, in which convolutions are products of matrices, as XLA computes others too
slowly on CPUs, a device's minibatches are taken in a loop, as on accelerators, and nothing is
evaluated; `reversed`: the minibatches of each step in reversed
order, which changes the order of sums and nothing else; or `nudged`: each pixel moved to the next
number above it.
"""

import dataclasses
import os
import sys
from pathlib import Path

import jax
import keras
import numpy as np

from experiments.data.pipeline import Minibatches
from experiments.grid import arms, protocols
from experiments.grid.runs import Run
from experiments.training import devices, distributed, group, signals
from experiments.training import run as training
from experiments.training.instruments import Instrument
from experiments.training.launchers import Place

PROTOCOLS = {
    "smoke": dataclasses.replace(protocols.SMOKE, workers=4),
    "imagenet": dataclasses.replace(
        protocols.IMAGENET,
        name="smoke",
        workers=4,
        steps=3,
        evaluate_every=3,
        evaluation_images=100,
        image_size=75,
        learning_rate=4.5e-4,
    ),
}


class Kept(Instrument):
    """Keeps the losses, and the weights at the end."""

    def __init__(self, trainer, folder, last_step, number):
        self._group, self._arm, self._folder = trainer.group, trainer.arm, folder
        self._left, self._number = last_step + 1, number
        self._count()

    def reset(self):
        self._losses = []

    def after_step(self, logs):
        self._losses.append(logs["last_loss"])
        self._count()

    def _count(self):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)

    def measure(self, moment):
        if moment.last:
            which = f"{self._arm.name}-{self._group.rank}"
            np.save(self._folder / f"losses-{which}.npy", np.array(self._losses))
            values = [*moment.weights[0], *moment.weights[1]]
            np.savez(
                self._folder / f"{which}.npz",
                **{f"weight_{number:03}": value for number, value in enumerate(values)},
            )
        return {}


def reversed_minibatches(examples):
    return np.concatenate(np.split(examples, len(examples) // protocols.MINIBATCH)[::-1])


def convolution_by_product(layer, images, kernel):
    """Does what `keras.layers.Conv2D.convolution_op` does, without dilation, as one product."""
    (rows, columns), (down, across) = kernel.shape[:2], layer.strides
    if layer.padding == "same":
        needed = [
            max((-(-size // stride) - 1) * stride + of_kernel - size, 0)
            for size, stride, of_kernel in zip(
                images.shape[1:3], layer.strides, kernel.shape[:2], strict=True
            )
        ]
        around = [(total // 2, total - total // 2) for total in needed]
        images = keras.ops.pad(images, [(0, 0), *around, (0, 0)])
    height, width = images.shape[1] - rows + 1, images.shape[2] - columns + 1
    seen = [
        images[:, row : row + height : down, column : column + width : across]
        for row in range(rows)
        for column in range(columns)
    ]
    kernel = keras.ops.reshape(kernel, (-1, kernel.shape[-1]))
    return keras.ops.matmul(keras.ops.concatenate(seen, axis=-1), kernel)


# On a busy machine processes may take long to come; a killed one is found without that.
group.START = 600.0


def main(folder, protocol, names, port, processes, process, last_step="-1", number="9"):
    folder, (protocol, _, variant) = Path(folder), protocol.partition(":")
    protocol = PROTOCOLS[protocol]
    if variant == "float64":
        jax.config.update("jax_enable_x64", True)
        keras.config.set_floatx("float64")
        keras.layers.Conv2D.convolution_op = convolution_by_product
        devices.UNROLLED = ()
        training.Accuracy = training.Clipping = lambda trainer: Instrument()
    synchronized = arms.synchronized()
    known = {arm.name: arm for arm in (*arms.PAPER, synchronized)}
    runs = [Run(protocol, known[name], 0) for name in names.split(",")]

    def instruments(trainer):
        return [Kept(trainer, folder, int(last_step), int(number))]

    read = Minibatches.__getitem__

    def noted(self, index):
        step = self.first_step + index
        with (folder / f"read-{process}.txt").open("a") as file:
            print(step, *self.sampler(step)[self.part], file=file)
        given = read(self, index)
        if variant == "reversed":
            given = tuple(reversed_minibatches(part) for part in given)
        if variant == "nudged":
            given = (np.nextafter(given[0], np.float32(np.inf)), given[1])
        return given

    Minibatches.__getitem__ = noted
    if port == "0":
        from experiments.data.load import load
        from experiments.records.store import Store

        for run in runs:
            source = load(protocol.source, folder / "data", image_size=protocol.image_size)
            training.Trainer(protocol, run.arm, source, instruments).run(0, Store(folder))
    else:
        place = Place("localhost", int(port), int(processes), int(process))
        data = str(folder / "data")
        outcome = distributed.run_together(runs, str(folder), data, place, instruments)
        if outcome.signal:
            sys.exit(signals.exit_code(outcome.signal))


if __name__ == "__main__":
    main(*sys.argv[1:])
