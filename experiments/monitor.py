"""r and d of a real run, as `brn.callbacks.RenormMonitor` sees them, and what looking costs.

    KERAS_BACKEND=jax python -m experiments.monitor          a minute on two cores

Trains one run of the grid, without evaluations, looks at a new minibatch every 10 steps, and writes
into the folder of results:
    monitor-<run id>.csv: `run`, `step`, `layer` and the monitor's quantities, a row each
    monitor-cost-<backend>.csv: `run,backend,device,cores,steps,probes,step_ms,probed_step_ms,every,
        cost_percent`: median times of a step with and without a look at it, and what the difference
        adds to training at the monitor's default frequency; compiling is not counted
"""

import argparse
import csv
import inspect
import io
import sys
import time
from pathlib import Path

import keras
import numpy as np

from brn.callbacks import RenormMonitor
from experiments import data, grid
from experiments.environment import environment
from experiments.pipeline import Minibatches
from experiments.runner import Trainer, sampler
from experiments.store import write_text


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


def watch(run: grid.Run, every: int) -> tuple[list[dict], list[float]]:
    """Trains a run; returns the monitor's history and the seconds of each step."""
    scale, arm, seed = run.scale, run.arm, run.seed
    source = data.load(scale.source, image_size=scale.image_size)
    trainer = Trainer(scale, arm, source)

    def minibatches(seed):
        return Minibatches(source.train, sampler(scale, arm, source, seed), total_steps=scale.steps)

    keras.utils.set_random_seed(seed)
    monitor, clock = RenormMonitor(minibatches(seed + 1000), every), Clock()
    trainer.model.fit(minibatches(seed), shuffle=False, verbose=0, callbacks=[clock, monitor])
    return monitor.history, clock.seconds


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.monitor", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scale", default="digits")
    parser.add_argument("--arm", default="brn-4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=10, help="steps between looks (default 10)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of results")
    options = parser.parse_args(arguments)
    (run,) = grid.runs(options.scale, [options.arm], [options.seed])
    history, seconds = watch(run, options.every)
    default = inspect.signature(RenormMonitor).parameters["every"].default
    made = environment()
    known = {"run": run.id, **{name: made[name] for name in ("backend", "device", "cores")}}
    price = {**known, **cost(seconds, options.every, default)}
    _write(options.results / f"monitor-{run.id}.csv", [{"run": run.id, **r} for r in history])
    _write(options.results / f"monitor-cost-{made['backend']}.csv", [price])
    print(f"{price['probes']} probes; the monitor costs {price['cost_percent']} % of training")
    return 0


def _write(path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(path, text.getvalue())
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
