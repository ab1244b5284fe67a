"""Many runs: one process, or several beside each other, each on cores of its own.

Processes take arms from one list and train an arm's seeds one after another, so that each arm is
compiled once. A run that has a result is left alone, and so is one that another process, of this
command or another, works on.

However a command ends, its processes end with it, within `STOP_SECONDS`: each has a pipe of its
own to the command, which tells either side at once when the other is gone. A process that dies is
named with its run, and another takes over what it had not begun. SIGTERM and Ctrl-C let each run
write a checkpoint first.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from pathlib import Path

from experiments.grid.runs import Run
from experiments.records.store import DamagedError, Store
from experiments.training.display import Display
from experiments.training.process import CHECKPOINT_KEPT, train_arm, work
from experiments.training.signals import STOP_SECONDS, STOP_SIGNALS, STOPPED


@dataclass
class Outcome:
    """What became of the runs that were to be trained.

    Attributes:
        ended: id -> "finished", "diverged", "busy" for those that another command is working on,
            "stopped" for those that wrote a checkpoint because they were told to.
        failed: id -> why the run did not end, and the way out.
        signal: what the command was stopped by, if it was.
    """

    ended: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    signal: int | None = None


def _none(trainer):
    return []


def run_all(
    runs: list[Run],
    results: str | Path,
    data_dir: str | None = None,
    jobs: int = 1,
    instruments: Callable = _none,
    checkpoint_minutes: float = 10.0,
    events: bool = False,
    train: Callable | None = None,
) -> Outcome:
    """Trains the runs that have no result yet, and shows how far they are.

    Args:
        runs: runs of one protocol, those of an arm next to each other.
        results: folder of results.
        data_dir: folder of data sets.
        jobs: processes; the cores of this machine are divided among as many, or one for each arm of
            the runs if that is fewer, however many have ended: the backends' sums depend on how
            many cores make them, and a run is to go on, or begin anew, to the same weights.
        instruments: makes a trainer's instruments beside those of every run; a function of a
            module, which the processes import.
        checkpoint_minutes: how old a checkpoint gets before the next.
        events: whether to write event logs for TensorBoard.
        train: what a process does with the runs of an arm, `train_arm` by default; it is a
            function of a module, which the processes import.

    Raises:
        ValueError: if the data are missing or cannot be used.
    """
    store, outcome, todo = Store(results), Outcome(), []
    for run in runs:
        try:
            if store.result(run) is None:
                todo.append(run)
        except DamagedError as error:
            outcome.failed[run.id] = str(error)
    arms = [list(group) for _, group in itertools.groupby(todo, key=lambda run: run.arm.name)]
    with Display() as display:
        for run_id, why in outcome.failed.items():
            display.write(f"{run_id}: {why}")
        if arms:
            places = _divided_cores(min(jobs, len({run.arm.name for run in runs})))[: len(arms)]
            how = (instruments, checkpoint_minutes, events)
            settings = (train or train_arm, results, data_dir, *how)
            with _Signals() as signals, _Team(arms, places, settings, outcome, display) as team:
                team.follow(signals)
    return outcome


class _Signals:
    """Notes SIGTERM and Ctrl-C instead of ending the command; a second one ends it at once."""

    def __init__(self):
        self.received = []

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received.append(number)


@dataclass(eq=False)
class _Worker:
    """A process, its end of the pipe, and what it was given and has not ended, in order."""

    process: multiprocessing.Process
    pipe: connection.Connection
    cores: set[int] | None
    runs: list[Run] = field(default_factory=list)
    begun: Run | None = None


class _Team:
    """The processes of a command, and what they are given to do."""

    def __init__(self, arms, places, settings, outcome, display):
        self._arms, self._settings = deque(arms), settings
        self._outcome, self._display = outcome, display
        display.total = sum(run.steps for arm in arms for run in arm)
        self._workers = []
        for cores in places:
            self._start(cores)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()

    def _start(self, cores):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(theirs, cores, *self._settings), daemon=True
        )
        # Until it can say what to do at a signal, a new process gets none.
        resource_tracker.ensure_running()  # it would let the signals through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._workers.append(_Worker(process, ours, cores))

    def follow(self, signals):
        """Gives out arms and notes what becomes of them until every process has ended."""
        deadline = None
        while self._workers:
            ready = connection.wait([worker.pipe for worker in self._workers], timeout=0.5)
            for worker in [worker for worker in self._workers if worker.pipe in ready]:
                try:
                    kind, run, detail = worker.pipe.recv()
                except (EOFError, OSError):
                    self._gone(worker, stopping=deadline is not None)
                else:
                    self._note(worker, kind, run, detail, stopping=deadline is not None)
            if signals.received and deadline is None:
                self._outcome.signal = signals.received[0]
                deadline = time.monotonic() + STOP_SECONDS
                self._display.write("Stopping: each run writes a checkpoint; again to stop at once")
                for worker in self._workers:
                    worker.process.terminate()
            if deadline and (len(signals.received) > 1 or time.monotonic() > deadline):
                return
            self._display.refresh()

    def _note(self, worker, kind, run, detail, stopping):
        if kind == "unusable":  # the data: no run can do without them
            raise ValueError(detail)
        if kind == "ready":
            worker.runs = [] if stopping or not self._arms else self._arms.popleft()
            with contextlib.suppress(OSError):  # if it is gone, its pipe says so next
                worker.pipe.send(worker.runs)
        elif kind == "step":
            worker.begun = run
            self._display.step(run, detail)
        else:
            worker.runs = [other for other in worker.runs if other != run]
            worker.begun = None
            if kind == "failed":
                self._fail(run, detail)
            else:
                self._outcome.ended[run.id] = detail
                self._display.ended(run, detail)
                self._display.write(f"{run.id}: {detail}")

    def _gone(self, worker, stopping):
        """Notes what a process that ended, or died, left; its other runs go to a new one."""
        worker.process.join()
        self._workers.remove(worker)
        exitcode, rest = worker.process.exitcode, worker.runs
        if stopping or not (rest or exitcode):
            return
        if rest and exitcode not in (0, STOPPED):
            run = worker.begun or rest[0]
            rest = [other for other in rest if other != run]
            self._fail(run, _cause_of_death(exitcode))
        if rest:
            self._arms.appendleft(rest)
        if self._arms and worker.runs:
            self._start(worker.cores)
        elif not self._workers:  # it could not even begin: nor could another
            for run in itertools.chain(*self._arms):
                self._fail(run, _cause_of_death(exitcode))

    def _fail(self, run, why):
        self._outcome.failed[run.id] = why
        self._display.ended(run)
        self._display.write(f"{run.id}: {why}")


def _cause_of_death(exitcode):
    how = f"exit code {exitcode}"
    if exitcode < 0:
        how = signal.Signals(-exitcode).name
    hint = ", as the system does when memory runs out" if exitcode == -signal.SIGKILL else ""
    return f"its process died ({how}{hint}). {CHECKPOINT_KEPT}"


def _divided_cores(jobs):
    """Returns as many cores for each job; `None`, no choice, where the system offers none."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    share = max(len(cores) // jobs, 1)
    return [set(cores[job % len(cores) :: jobs][:share]) for job in range(jobs)]
