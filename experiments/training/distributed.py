"""Runs trained by a group of processes together, one run after another.

Process 0 leads: it alone locks runs, decides what is trained, writes results and checkpoints and
shows how far it is. The others follow: they get decisions and checkpoints from it, and need the
data, but none of its folders.
"""

import contextlib
import io
import itertools
import json
from collections.abc import Callable

import numpy as np

from experiments.grid.runs import Run
from experiments.records.curves import Curves
from experiments.records.store import Store
from experiments.training.display import Display
from experiments.training.group import Group, divisors
from experiments.training.launchers import Place
from experiments.training.workers import Outcome


class SharedStore:
    """The leader's store in every process: read by all, written by the leader.

    Args:
        store: the leader's; what is at its place elsewhere is not looked at.
        group: the processes.
    """

    def __init__(self, store: Store, group: Group):
        self._store, self._group, self._leads = store, group, group.rank == 0

    def checkpoint(self, run: Run) -> tuple[dict, dict[str, np.ndarray]] | None:
        """Returns the notes and arrays of the leader's checkpoint of a run, or `None`."""
        if self._leads:
            saved = self._store.checkpoint(run)
            file = io.BytesIO()
            if saved:
                np.savez(file, notes=np.array(json.dumps(saved[0])), **saved[1])
            self._group.first(file.getvalue())
            return saved
        file = self._group.first()
        if not file:
            return None
        with np.load(io.BytesIO(file)) as got:
            arrays = dict(got)
        return json.loads(arrays.pop("notes").item()), arrays

    def checkpoint_path(self, run: Run):
        """Where the leader's checkpoint of a run is."""
        return self._store.checkpoint_path(run)

    def write_checkpoint(self, run: Run, notes: dict, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint, if this process leads."""
        if self._leads:
            self._store.write_checkpoint(run, notes, arrays)

    def write_result(self, run: Run, result: dict) -> None:
        """Writes a result, if this process leads."""
        if self._leads:
            self._store.write_result(run, result)


def run_together(
    runs: list[Run],
    results: str,
    data_dir: str | None,
    place: Place,
    instruments: Callable,
    checkpoint_minutes: float = 10.0,
    events: bool = False,
) -> Outcome:
    """Trains the runs that have no result yet, each by all processes.

    Where one of them gets SIGTERM or Ctrl-C, all stop, with a checkpoint where they train.

    Args:
        runs: runs of one protocol, those of an arm next to each other.
        results: folder of results, the leader's.
        data_dir: folder of data sets.
        place: which of the processes this is.
        instruments: makes a trainer's instruments beside those of every run.
        checkpoint_minutes: how old a checkpoint gets before the next.
        events: whether the leader writes event logs for TensorBoard.

    Returns:
        What became of the runs, the same in every process.

    Raises:
        ValueError: before the processes have met, if their number does not fit.
    """
    workers = {run.effective_protocol.workers for run in runs}
    for number in workers:
        if number % place.processes:
            raise ValueError(
                f"Expected a number of processes that divides the {number} minibatches of a step: "
                f"{divisors(number)}. Received: --processes {place.processes}"
            )
    group = Group(place, f"{runs[0].protocol.name}: {', '.join(run.id for run in runs)}")
    try:
        import keras  # once the processes have met: this can take a while

        if keras.config.backend() != "jax":
            raise ValueError(
                "Several processes train together on JAX. Received: "
                f"KERAS_BACKEND={keras.config.backend()}. Set KERAS_BACKEND=jax."
            )
        from experiments.training.devices import Devices

        with group.together():
            devices = Devices(group)
        for number in workers:
            devices.check(number)
        outcome = _Session(
            group, devices, Store(results), data_dir, instruments, checkpoint_minutes, events
        ).train(runs)
        devices.leave()
    except BaseException as error:
        group.fail(error)
    return Outcome(outcome, signal=group.signal)


class _Session:
    def __init__(self, group, devices, store, data_dir, instruments, checkpoint_minutes, events):
        self._group, self._devices, self._store = group, devices, store
        self._data_dir, self._instruments = data_dir, instruments
        look = Curves(store.root, events) if group.rank == 0 else lambda run, curve: None
        self._how = (checkpoint_minutes, look)

    def train(self, runs):
        outcome = {}
        leads = self._group.rank == 0
        with Display() as display:
            display.total = sum(run.steps for run in runs)
            for _, of_arm in itertools.groupby(runs, key=lambda run: run.arm.name):
                trainer = None
                for run in of_arm:
                    self._group.begins()
                    with contextlib.ExitStack() as held:
                        state = self._decide(run, held)
                        if state == "stop":
                            return outcome
                        if state == "train":
                            trainer = trainer or self._trainer(run)
                            state = outcome[run.id] = self._run(trainer, run, display)
                        elif state == "busy":
                            outcome[run.id] = state
                    display.ended(run, state)
                    if leads:
                        display.write(f"{run.id}: {state}")
        return outcome

    def _decide(self, run, held):
        """Returns "train", "stop", "busy" or how the run ended before; the leader locks it."""
        if self._group.rank:
            return self._group.first().decode()
        if self._group.rests():
            state = "stop"
        elif (lock := self._store.try_lock(run)) is None:
            state = "busy"
        else:
            held.enter_context(lock)
            result = self._store.result(run)
            state = result["status"] if result else "train"
        self._group.first(state.encode())
        return state

    def _trainer(self, run):
        from experiments.data.load import load
        from experiments.training.run import Trainer

        protocol = run.effective_protocol
        # The leader goes first: it makes a copy on disk that others of its host find.
        for turn in (True, False):
            if (self._group.rank == 0) == turn:
                source = load(protocol.source, self._data_dir, image_size=protocol.image_size)
            self._group.everyone("loaded")
        return Trainer(run.protocol, run.arm, source, self._instruments, self._devices)

    def _run(self, trainer, run, display):
        def progress(run, step):
            if self._group.rank == 0:
                display.step(run, step)
                display.refresh()
            return not self._group.goes_on()

        store = SharedStore(self._store, self._group)
        result = trainer.run(run.seed, store, progress, *self._how)
        return result["status"] if result else "stopped"
