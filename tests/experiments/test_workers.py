"""However a command ends, its processes end with it, and what became of each run is told."""

import os
import signal
import threading
import time

import psutil
import pytest
from runs_fixtures import result

from experiments.grid.runs import select_runs
from experiments.records.store import Store
from experiments.training import workers
from experiments.training.workers import run_all

pytestmark = pytest.mark.any_backend

RUNS = select_runs("smoke", ["bn-32", "brn-32"], [0, 1])
OTHERS = {run.id: "finished" for run in RUNS[1:]}


def pretend(runs, pipe, stop, store, wish, *_):
    """In place of training: does what is wished of the first run, and ends the others."""
    for run in runs:
        pipe.send(("step", run, 0))
        if run != RUNS[0]:
            pipe.send(("ended", run, "finished"))
            continue
        if wish == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if wish == "fail":
            pipe.send(("failed", run, "No space left on device"))
            continue
        if wish == "unusable":
            pipe.send(("unusable", None, "No such folder"))
        if wish == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop.can_wait = True
        (store.root / "begun").touch()
        while not stop.wanted:
            time.sleep(0.01)
        pipe.send(("ended", run, "stopped"))
        return


def broken(runs, pipe, *_):
    os._exit(3)


def placed(runs, pipe, stop, store, *_):
    """In place of training: writes down on how many cores it is."""
    (store.root / runs[0].arm.name).write_text(str(len(os.sched_getaffinity(0))))
    for run in runs:
        pipe.send(("ended", run, "finished"))


def children():
    return [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert not children()


def when_begun(folder, do):
    """Does something, in a thread, once the first run has begun."""

    def wait():
        while not (folder / "begun").exists():
            time.sleep(0.05)
        do()

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_process_that_dies_is_named_with_its_run_and_the_others_go_on(tmp_path, capsys, jobs):
    found = run_all(RUNS, tmp_path, "die", jobs, train=pretend)
    assert found.ended == OTHERS
    assert list(found.failed) == [RUNS[0].id]
    assert f"{RUNS[0].id}: its process died (SIGKILL" in capsys.readouterr().err
    assert "the same command goes on" in found.failed[RUNS[0].id]


def test_a_run_that_fails_keeps_no_other_from_being_trained(tmp_path):
    found = run_all(RUNS, tmp_path, "fail", train=pretend)
    assert found.failed == {RUNS[0].id: "No space left on device"}
    assert found.ended == OTHERS


def test_processes_that_cannot_begin_do_not_leave_the_command_waiting(tmp_path):
    found = run_all(RUNS[:2], tmp_path, train=broken)
    assert set(found.failed) == {run.id for run in RUNS[:2]}
    assert "exit code 3" in found.failed[RUNS[0].id]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs a choice of cores")
def test_a_run_is_on_as_many_cores_whatever_has_ended_before(tmp_path):
    """On more, its sums would be others, and so its weights."""
    store = Store(tmp_path)
    run_all(RUNS, tmp_path, jobs=2, train=placed)
    cores = (tmp_path / "brn-32").read_text()
    assert int(cores) == max(len(os.sched_getaffinity(0)) // 2, 1)
    for run in RUNS[:2]:
        store.write_result(run, result(run))
    run_all(RUNS, tmp_path, jobs=2, train=placed)
    assert (tmp_path / "brn-32").read_text() == cores


@pytest.mark.parametrize(("cores", "jobs", "each"), [(2, 2, 1), (5, 2, 2), (8, 3, 2), (2, 3, 1)])
def test_all_jobs_have_as_many_cores(monkeypatch, cores, jobs, each):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert [len(share) for share in workers._divided_cores(jobs)] == [each] * jobs


def test_without_data_the_command_ends_whatever_the_size_of_the_grid(tmp_path):
    grid = [*RUNS, *select_runs("tiny_imagenet")]
    with pytest.raises(ValueError, match="No such folder"):
        run_all(grid, tmp_path, "unusable", train=pretend)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_runs_with_a_checkpoint(tmp_path, number):
    when_begun(tmp_path, lambda: os.kill(os.getpid(), number))
    found = run_all(RUNS[:2], tmp_path, "wait", train=pretend)
    assert found.signal == number
    assert found.ended == {RUNS[0].id: "stopped"}
    assert not found.failed


def test_a_second_signal_does_not_wait(tmp_path):
    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    when_begun(tmp_path, twice)
    started = time.monotonic()
    assert run_all(RUNS, tmp_path, "stubborn", train=pretend).signal == signal.SIGTERM
    assert time.monotonic() - started < 20


def test_a_process_that_is_told_to_stop_leaves_its_other_runs_to_a_new_one(tmp_path):
    when_begun(tmp_path, lambda: children()[0].terminate())
    found = run_all(RUNS, tmp_path, "wait", train=pretend)
    assert found.ended == {RUNS[0].id: "stopped", **OTHERS}
    assert not found.failed
