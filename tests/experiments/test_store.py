"""Results are written whole, once; checkpoints and locks belong to one run."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from experiments.grid import protocols
from experiments.grid.runs import select_runs
from experiments.records.store import Store

pytestmark = pytest.mark.any_backend

RUN = select_runs("smoke", ["bn-4"], [0])[0]
OTHER = dataclasses.replace(RUN, protocol=dataclasses.replace(protocols.SMOKE, learning_rate=0.5))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_results_come_back_and_are_not_replaced(store):
    assert store.result(RUN) is None
    written = {"id": RUN.id, "config": RUN.config()}
    store.write_result(RUN, written)
    assert store.result(RUN) == written
    with pytest.raises(ValueError, match="never replaced"):
        store.write_result(RUN, written)


def test_a_result_of_another_configuration_is_an_error(store):
    store.write_result(RUN, {"id": RUN.id, "config": RUN.config()})
    with pytest.raises(ValueError, match=r"learning_rate=0\.001 \(now 0\.5\)"):
        store.result(OTHER)


def test_checkpoints_come_back_until_the_result_is_written(store):
    assert store.checkpoint(RUN) is None
    store.write_checkpoint(RUN, {"step": 4}, {"model_0": np.arange(3.0)})
    notes, arrays = store.checkpoint(RUN)
    assert notes["step"] == 4
    np.testing.assert_array_equal(arrays["model_0"], [0, 1, 2])
    with pytest.raises(ValueError, match="learning_rate"):
        store.checkpoint(OTHER)
    store.write_result(RUN, {"id": RUN.id, "config": RUN.config()})
    assert store.checkpoint(RUN) is None


def test_what_killed_writes_of_a_run_left_is_removed_under_its_lock(store):
    left = store.result_path(RUN).with_name(f".{RUN.id}.json.x1.partial")
    left.parent.mkdir(parents=True)
    left.write_text("half")
    other = left.with_name(".another.json.x1.partial")
    other.write_text("half")
    store.try_lock(RUN).release()
    assert not left.exists()
    assert other.exists()


def test_a_lock_is_held_against_other_processes_and_ends_with_its_process(store):
    code = (
        "import sys\nfrom experiments.grid.runs import select_runs\n"
        "from experiments.records.store import Store\n"
        f"lock = Store({str(store.root)!r}).try_lock(select_runs('smoke', ['bn-4'], [0])[0])\n"
        "print(lock is not None, flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "True\n"
        assert store.try_lock(RUN) is None
        process.kill()
    lock = store.try_lock(RUN)
    assert lock is not None
    lock.release()
