"""Many runs: one process, or several beside each other, each on cores of its own.

Processes take arms from one list and train an arm's seeds one after another, so that each arm is
compiled once. A run that has a result is left alone, and so is one that another process, of this
command or another, works on.
"""

import itertools
import multiprocessing
import os
import queue
import signal
import sys

from tqdm import tqdm

from experiments.grid.runs import Run
from experiments.records.store import Store


def run_all(runs: list[Run], results: str, data_dir: str | None, jobs: int) -> dict[str, str]:
    """Trains the runs that have no result yet, and shows how far they are.

    Args:
        runs: runs of one protocol, those of an arm next to each other.
        results: folder of results.
        data_dir: folder of data sets.
        jobs: processes; the cores of this machine are divided among them.

    Returns:
        id -> "finished" or "diverged" for the runs trained now, "busy" for those that another
        command is working on.

    Raises:
        ValueError: if a result or checkpoint was made with another configuration, or the data are
            missing.
        RuntimeError: if a process ended without saying why.
    """
    store = Store(results)
    todo = [run for run in runs if store.result(run) is None]
    by_arm = [list(group) for _, group in itertools.groupby(todo, key=lambda run: run.arm.name)]
    if not by_arm:
        return {}
    context = multiprocessing.get_context("spawn")
    arms, messages = context.Queue(), context.Queue()
    jobs = min(jobs, len(by_arm))
    for arm in by_arm + [None] * jobs:
        arms.put(arm)
    processes = [
        context.Process(target=_work, args=(arms, messages, results, data_dir, cores), daemon=True)
        for cores in _divided_cores(jobs)
    ]
    for process in processes:
        process.start()
    try:
        return _follow(todo, processes, messages)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _divided_cores(jobs):
    """Returns a set of cores for each job; `None`, no choice, where the system offers none."""
    if jobs == 1 or not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[job::jobs]) or set(cores) for job in range(jobs)]


def _work(arms, messages, results, data_dir, cores):
    """The body of a process; says how it goes in `messages`: (kind, run or None, detail)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends this one
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        for arm in iter(arms.get, None):
            _train_arm(arm, messages, Store(results), data_dir)
    except ValueError as error:
        messages.put(("error", None, str(error)))
    messages.put(("end", None, None))


def _train_arm(runs, messages, store, data_dir):
    # Keras is imported here, after the cores have been divided: backends count them once.
    from experiments.data.load import load
    from experiments.training.run import Trainer

    protocol = runs[0].protocol
    trainer = None
    for run in runs:
        lock = store.try_lock(run)
        if lock is None:
            messages.put(("done", run, "busy"))
            continue
        with lock:
            result = store.result(run)  # it may have ended while this process was busy
            if result is None:
                messages.put(("begin", run, None))
                source = load(protocol.source, data_dir, image_size=protocol.image_size)
                trainer = trainer or Trainer(protocol, run.arm, source)

                def progress(run, step):
                    # However the command ended, nobody is left to be told.
                    if not multiprocessing.parent_process().is_alive():
                        sys.exit("The command that started this run is gone.")
                    messages.put(("step", run, step))

                result = trainer.run(run.seed, store, progress)
            messages.put(("done", run, result["status"]))


def _follow(runs, processes, messages):
    """Shows the progress of the processes until all have ended; returns id -> status."""
    total = sum(run.protocol.steps for run in runs)
    steps, outcome, active = {}, {}, {}
    running = len(processes)
    bar_format = (
        "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}<{remaining}] {desc}"
    )
    with tqdm(total=total, bar_format=bar_format, mininterval=0.5, smoothing=0.05) as bar:
        while running:
            try:
                kind, run, detail = messages.get(timeout=1)
            except queue.Empty:
                if not any(process.is_alive() for process in processes):
                    raise RuntimeError(
                        "The training processes ended early; what they printed is above. "
                        "Checkpoints are kept: the same command goes on from them."
                    ) from None
                bar.refresh()
                continue
            if kind == "error":
                raise ValueError(detail)
            if kind == "end":
                running -= 1
            elif kind == "done":
                outcome[run.id] = detail
                active.pop(run.id, None)
                bar.write(f"{run.id}: {detail}")
            else:
                active[run.id] = steps[run.id] = detail or steps.get(run.id, 0)
            done = sum(
                run.protocol.steps if run.id in outcome else steps.get(run.id, 0) for run in runs
            )
            bar.n = done
            names = ", ".join(f"{name} at {step}" for name, step in active.items())
            bar.set_description_str(names, refresh=False)
            bar.update(0)
    return outcome
