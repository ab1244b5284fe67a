"""What is done, what remains and how long it takes, in words."""

import pytest

from experiments.grid.runs import select_runs
from experiments.records.status import Progress, describe, progress
from experiments.records.store import Store

pytestmark = pytest.mark.any_backend

RUNS = select_runs("tiny_imagenet")
STEPS = RUNS[0].protocol.steps


@pytest.fixture
def store(tmp_path):
    """Two runs of 2 hours on 2 cores, one of them diverged half-way; one with a checkpoint."""
    store = Store(tmp_path)
    for run, status, step, seconds in (
        (RUNS[0], "finished", STEPS, 7200),
        (RUNS[1], "diverged", STEPS // 2, 3600),
    ):
        result = {
            "id": run.id,
            "status": status,
            "config": run.config(),
            "environment": {"cores": 2},
            "wall_time_s": seconds,
            "curve": [{"step": step}],
        }
        store.write_result(run, result)
    store.write_checkpoint(RUNS[2], {"step": STEPS // 2, "wall_time_s": 10.0}, {})
    return store


def test_progress_of_a_run(store):
    assert progress(store, RUNS[0]) == Progress("finished", STEPS, 7200, 4.0)
    assert progress(store, RUNS[1]) == Progress("diverged", STEPS // 2, 3600, 2.0)
    assert progress(store, RUNS[2]) == Progress("interrupted", STEPS // 2, 10.0)
    assert progress(store, RUNS[3]).state == "to do"


def test_many_runs_are_counted_by_study_and_those_under_way_are_named(store):
    lock = store.try_lock(RUNS[3])
    text = describe(store, RUNS)
    lock.release()
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [run.id for run in RUNS[1:4]]
    assert f"interrupted, checkpoint at step {STEPS // 2} of {STEPS}" in lines[1]
    assert lines[2].endswith("running")
    assert "paper          2 of  45 have ended, 1 diverged, 1 running, 1 interrupted" in lines[3]
    assert len(lines) == 3 + 7 + 2
    total = len(RUNS)
    assert f"2 of {total} runs have ended, 1 of them diverged; 6.00 core-hours" in lines[-2]
    # both went at 2 hours a run; half a run is done of one
    hours = 2 * (total - 2.5)
    assert f"about {hours:.1f} hours one after another" in lines[-1]
    assert lines[-1].endswith(f"{2 * hours:.1f} core-hours.")


def test_every_run_is_listed_if_asked_or_if_they_are_few(store):
    assert all(run.id in describe(store, RUNS, verbose=True) for run in RUNS)
    few = describe(store, RUNS[:4]).splitlines()
    assert len(few) == 6
    assert few[0].endswith("finished")


def test_without_a_result_there_is_no_pace(tmp_path):
    text = describe(Store(tmp_path), RUNS[:2])
    assert text.endswith(f"The rest is {2 * STEPS:,} steps; no run has ended yet to tell how long "
                         "they take.")  # fmt: skip
