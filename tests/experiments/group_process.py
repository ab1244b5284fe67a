"""One process of a group that trains runs of a small protocol; `test_distributed.py` starts it.

    .../group_process.py FOLDER PROTOCOL[:VARIANT] ARMS PORT PROCESSES PROCESS [STEP [SIGNAL]]

Results go to FOLDER, and there, from each process, `<arm>-<process>.npz`, the weights' averages at
the end of a run, and `read-<process>.txt`, the indices that it read: a line a step. With port 0 a
process trains without a group. After STEP the process sends itself SIGNAL, that of `kill -9` unless
it is another; with STEP 0 once its first network is built.

VARIANT is `float64`, or `reversed`: the minibatches of each step in reversed order, which changes
the order of sums and nothing else.
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
from experiments.training import distributed, group, signals
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
    """Keeps what a process read, and the weights at the end."""

    def __init__(self, trainer, folder, last_step, number):
        self._group, self._arm, self._folder = trainer.group, trainer.arm, folder
        self._left, self._number = last_step + 1, number
        self.after_step(None)

    def after_step(self, logs):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)

    def measure(self, moment):
        if moment.last:
            values = [*moment.weights[0], *moment.weights[1]]
            np.savez(
                self._folder / f"{self._arm.name}-{self._group.rank}.npz",
                **{f"weight_{number:03}": value for number, value in enumerate(values)},
            )
        return {}


def reversed_minibatches(examples):
    return np.concatenate(np.split(examples, len(examples) // protocols.MINIBATCH)[::-1])


# On a busy machine processes may take long to come; a killed one is found without that.
group.START = 600.0


def main(folder, protocol, names, port, processes, process, last_step="-1", number="9"):
    folder, (protocol, _, variant) = Path(folder), protocol.partition(":")
    protocol = PROTOCOLS[protocol]
    if variant == "float64":
        jax.config.update("jax_enable_x64", True)
        keras.config.set_floatx("float64")
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
        return given

    Minibatches.__getitem__ = noted
    if port == "0":
        from experiments.data.load import load
        from experiments.records.store import Store
        from experiments.training.run import Trainer

        for run in runs:
            source = load(protocol.source, folder / "data", image_size=protocol.image_size)
            Trainer(protocol, run.arm, source, instruments).run(0, Store(folder))
    else:
        place = Place("localhost", int(port), int(processes), int(process))
        data = str(folder / "data")
        outcome = distributed.run_together(runs, str(folder), data, place, instruments)
        if outcome.signal:
            sys.exit(signals.exit_code(outcome.signal))


if __name__ == "__main__":
    main(*sys.argv[1:])
