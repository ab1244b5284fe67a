"""r and d of a real run, as `brn.callbacks.RenormMonitor` sees them, and what looking costs.

    KERAS_BACKEND=jax python -m experiments monitor          a minute on two cores

Trains one run of the grid, without evaluations, looks at a new minibatch every 10 steps, and writes
into the folder of results:
    monitor-<run id>.csv: `run`, `step`, `layer` and the monitor's quantities, a row each
    monitor-cost-<backend>.csv: `run,backend,device,cores,steps,probes,step_ms,probed_step_ms,every,
        cost_percent`: median times of a step with and without a look at it, and what the difference
        adds to training at the monitor's default frequency; compiling is not counted
"""

import inspect
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import files
from brn.callbacks import RenormMonitor
from experiments.data.load import load
from experiments.data.pipeline import Minibatches
from experiments.grid.runs import Run
from experiments.training.environment import environment
from experiments.training.run import Trainer, sampler


class Clock(keras.callbacks.Callback):
    """Times steps, from before the callbacks that come after it to the end of the computation."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Stops it; Keras has waited for the step's logs."""
        self.seconds.append(time.perf_counter() - self._started)


def cost(seconds: list[float], every: int, default: int) -> dict[str, float | int]:
    """Returns what looking costs, from the times of steps of which every `every`-th was looked at.

    The first `every` steps, which compile, are left out.

    Args:
        seconds: of each step.
        every: steps between two looks.
        default: steps between two looks that `cost_percent` is for.
    """
    times = 1e3 * np.array(seconds[every:])
    probed = np.arange(len(times)) % every == 0
    without, with_probe = np.median(times[~probed]), np.median(times[probed])
    return {
        "steps": len(times),
        "probes": int(probed.sum()),
        "step_ms": round(float(without), 3),
        "probed_step_ms": round(float(with_probe), 3),
        "every": default,
        "cost_percent": round(100 * float(with_probe - without) / (default * without), 3),
    }


def watch(run: Run, every: int) -> tuple[list[dict], list[float]]:
    """Trains a run; returns the monitor's history and the seconds of each step."""
    protocol, arm, seed = run.protocol, run.arm, run.seed
    source = load(protocol.source, image_size=protocol.image_size)
    trainer = Trainer(protocol, arm, source)

    def minibatches(seed):
        return Minibatches(
            source.train, sampler(protocol, arm, source, seed), total_steps=protocol.steps
        )

    keras.utils.set_random_seed(seed)
    monitor, clock = RenormMonitor(minibatches(seed + 1000), every), Clock()
    trainer.model.fit(minibatches(seed), shuffle=False, verbose=0, callbacks=[clock, monitor])
    return monitor.history, clock.seconds


def record(run: Run, every: int, results: str | Path) -> None:
    """Trains a run and writes what the monitor saw and what that cost into the folder of results.

    Args:
        run: of the grid; its own result, if it has one, is left alone.
        every: steps between two looks.
        results: folder of results.
    """
    history, seconds = watch(run, every)
    default = inspect.signature(RenormMonitor).parameters["every"].default
    made = environment()
    known = {"run": run.id, **{name: made[name] for name in ("backend", "device", "cores")}}
    price = {**known, **cost(seconds, every, default)}
    _write(Path(results) / f"monitor-{run.id}.csv", [{"run": run.id, **r} for r in history])
    _write(Path(results) / f"monitor-cost-{made['backend']}.csv", [price])
    print(f"{price['probes']} probes; the monitor costs {price['cost_percent']} % of training")


def _write(path, rows):
    files.write_csv(path, pd.DataFrame(rows), "%.6g")
    print(f"wrote {path}")
