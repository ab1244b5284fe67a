"""A process that trains: what it does with the runs it is given, and how it ends.

It says how it goes in its pipe to the command, `(kind, run or None, detail)`: "ready" for the runs
of an arm, "step" with the step that a run has reached, "ended" with how, "failed" with why, and
"unusable" with what is wrong with the data. It ends when the command is gone, and at SIGTERM, once
the run that it trains has a checkpoint.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing import connection

from experiments.records.curves import Curves
from experiments.records.store import Store
from experiments.training.signals import STOP_SIGNALS, STOPPED

CHECKPOINT_KEPT = "Its last checkpoint is kept: the same command goes on from there."


class Stop:
    """What SIGTERM does in a process: between steps it is only noted, elsewhere it ends it."""

    def __init__(self):
        self.wanted = self.can_wait = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the command, which says so
        signal.signal(signal.SIGTERM, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _note(self, number, frame):
        self.wanted = True
        if not self.can_wait:
            sys.exit(STOPPED)


def work(pipe, cores, train, results, *settings):
    """The body of a process; says how it goes in `pipe`: (kind, run or None, detail)."""
    stop = Stop()
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if cores:
        os.sched_setaffinity(0, cores)
    store = Store(results)
    while not stop.wanted:
        pipe.send(("ready", None, None))
        runs = pipe.recv()
        if not runs:
            break
        try:
            train(runs, pipe, stop, store, *settings)
        except _UnusableDataError as error:
            pipe.send(("unusable", None, str(error)))
        except BrokenPipeError:
            return  # nobody is left to be told


class _UnusableDataError(Exception):
    """No run of the protocol can be trained."""


def _end_with(parent):
    """Ends this process, whatever it is doing, when the command that started it is gone."""
    connection.wait([parent.sentinel])
    os._exit(1)


def train_arm(runs, pipe, stop, store, data_dir, instruments, checkpoint_minutes, events):
    """Trains the runs of an arm one after another, and tells `pipe` what becomes of each."""
    trainer, told, look = None, 0.0, Curves(store.root, events)

    def progress(run, step):
        nonlocal told
        stop.can_wait = True
        if time.monotonic() - told > 0.2:
            pipe.send(("step", run, step))
            told = time.monotonic()
        return stop.wanted

    for run in runs:
        lock = store.try_lock(run)
        if lock is None:
            pipe.send(("ended", run, "busy"))
            continue
        try:
            result = store.result(run)  # it may have ended while this process was busy
            if result is None:
                notes = store.checkpoint_notes(run)
                pipe.send(("step", run, notes["step"] if notes else 0))
                trainer = trainer or _trainer(run, data_dir, instruments)
                result = trainer.run(run.seed, store, progress, checkpoint_minutes, look)
            pipe.send(("ended", run, result["status"] if result else "stopped"))
        except (BrokenPipeError, _UnusableDataError):
            raise
        except OSError as error:  # a full disk, say
            pipe.send(("failed", run, f"{error}. {CHECKPOINT_KEPT}"))
        except ValueError as error:
            pipe.send(("failed", run, str(error)))
        except Exception as error:  # of the backend, say: the other runs go on
            traceback.print_exc()
            pipe.send(("failed", run, f"{type(error).__name__}: {error}"))
        finally:
            stop.can_wait = False
            lock.release()
        if stop.wanted:
            return


def _trainer(run, data_dir, instruments):
    from experiments.data.load import load

    protocol = run.effective_protocol
    try:
        source = load(protocol.source, data_dir, image_size=protocol.image_size)
    except (OSError, ValueError) as error:
        raise _UnusableDataError(str(error)) from error
    if source.left_out:
        print(
            f"{source.name}: {len(source.left_out)} files and classes are left out; `prepare` says "
            "which, and why.",
            file=sys.stderr,
        )
    if source.classes != protocol.classes:
        raise _UnusableDataError(
            f"Expected {protocol.source} to have the {protocol.classes} classes of the protocol "
            f"{protocol.name}. Received: {source.classes} classes. Correct the protocol."
        )
    # Keras is imported here, after the cores have been divided: backends count them once.
    from experiments.training.run import Trainer

    return Trainer(run.protocol, run.arm, source, instruments)
