"""Results are written whole, once; checkpoints and locks belong to one run."""

import dataclasses
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from runs_fixtures import notes, result

from experiments.grid import protocols
from experiments.grid.runs import select_runs
from experiments.records.store import DamagedError, Store

pytestmark = pytest.mark.any_backend

RUN = select_runs("smoke", ["bn-4"], [0])[0]
OTHER = dataclasses.replace(RUN, protocol=dataclasses.replace(protocols.SMOKE, learning_rate=0.5))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_results_come_back_and_are_not_replaced(store):
    assert store.result(RUN) is None
    written = result(RUN)
    store.write_result(RUN, written)
    assert store.result(RUN) == written
    with pytest.raises(ValueError, match="never replaced"):
        store.write_result(RUN, written)


def test_a_result_of_another_configuration_is_an_error(store):
    store.write_result(RUN, result(RUN))
    with pytest.raises(ValueError, match=r"learning_rate=0\.001 \(now 0\.5\)"):
        store.result(OTHER)


def test_checkpoints_come_back_until_the_result_is_written(store):
    assert store.checkpoint(RUN) is None
    store.write_checkpoint(RUN, notes(4), {"model_0": np.arange(3.0)})
    found, arrays = store.checkpoint(RUN)
    assert found["step"] == store.checkpoint_notes(RUN)["step"] == 4
    np.testing.assert_array_equal(arrays["model_0"], [0, 1, 2])
    with pytest.raises(ValueError, match="learning_rate"):
        store.checkpoint(OTHER)
    store.write_result(RUN, result(RUN))
    assert store.checkpoint(RUN) is None


def changed(**changes):
    return json.dumps(result(RUN, **changes)).encode()


WHOLE = changed()
POINT = {"step": 6, "validation_accuracy_percent": 50.0}


@pytest.mark.parametrize(
    ("contents", "received"),
    [
        (b"", "an empty file"),
        (WHOLE[:-20], "line 1"),
        (b"\x00" * 100, "Expecting value"),
        (b"\xff\xfe" + WHOLE, "line 1"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "list instead of names"),
        (b'{"hello": 1}', "no 'id'"),
        (changed(id="smoke-bn-4-s1"), "id='smoke-bn-4-s1'"),
        (changed(status="done"), "status='done'"),
        (changed(config=None), "config=None"),
        (changed(environment={"cores": 2}), "an environment without backend"),
        (changed(wall_time_s=-1), "wall_time_s=-1"),
        (changed(curve=[]), "a curve without a point"),
        (changed(curve=[{"step": 4}]), "ends at step 4 of 6"),
        (changed(curve=[POINT, POINT]), "step 6 after step 6"),
        (changed(curve=[{"validation_accuracy_percent": 5.0}]), "without a step"),
        (changed(curve=[{**POINT, "training_loss": float("nan")}]), "NaN"),
        (changed(curve=[{**POINT, "training_loss": "low"}]), "training_loss='low'"),
        (changed(curve=[{**POINT, "validation_accuracy_percent": 101}]), "percent=101"),
        (changed(curve=[{**POINT, "training_loss": 0}]).replace(b": 0}", b": 1e999}"), "loss=inf"),
    ],
)
def test_a_damaged_result_is_named_with_the_way_out(store, contents, received):
    path = store.result_path(RUN)
    path.parent.mkdir(parents=True)
    path.write_bytes(contents)
    with pytest.raises(
        DamagedError, match=rf"{path} .*Received: .*{re.escape(received)}"
    ) as caught:
        store.result(RUN)
    assert "remove it: the run is then trained anew" in str(caught.value)


def test_a_folder_in_the_place_of_a_result_is_named(store):
    store.result_path(RUN).mkdir(parents=True)
    with pytest.raises(DamagedError, match="Is a directory"):
        store.result(RUN)


def flipped(contents, where):
    return contents[:where] + bytes([contents[where] ^ 1]) + contents[where + 1 :]


def saved(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def rewritten(contents, **changes):
    with np.load(io.BytesIO(contents)) as file:
        return saved(**{**file, **changes})


def without_checksum(contents, **changes):
    with np.load(io.BytesIO(contents)) as file:
        return saved(**{k: v for k, v in {**file, **changes}.items() if k != "checksum"})


CHANGED_NOTES = np.array(json.dumps({**notes(4), "config": RUN.config(), "step": 2}))


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (lambda whole: b"", "."),
        (lambda whole: whole[: len(whole) // 2], "."),
        (lambda whole: whole[:-1], "."),
        (lambda whole: b"\x00" * len(whole), "."),
        (lambda whole: b"a text\n" * 100, "."),
        (lambda whole: flipped(whole, whole.index(b"model_0") + 200), "CRC|Bad|checksum"),
        (lambda whole: flipped(whole, whole.rindex(b"PK\x01\x02")), "."),
        (lambda whole: WHOLE, "."),
        (lambda whole: saved(model_0=np.zeros(3)), "notes"),
        (lambda whole: rewritten(whole, model_0=np.ones(3)), "checksum"),
        (lambda whole: rewritten(whole, model_0=np.full(3, np.nan)), "checksum"),
        (lambda whole: rewritten(whole, model_1=np.zeros(3)), "checksum"),
        (lambda whole: rewritten(whole, notes=CHANGED_NOTES), "checksum"),
        (lambda whole: without_checksum(whole, model_0=np.full(3, np.inf)), "not finite"),
        (lambda whole: without_checksum(whole, notes=np.array("{}")), "no 'step'"),
        (lambda whole: without_checksum(whole, notes=np.array("")), "an empty file"),
    ],
)
def test_a_damaged_checkpoint_is_named_with_the_way_out(store, damage, received):
    store.write_checkpoint(RUN, notes(4), {"model_0": np.arange(3.0)})
    path = store.checkpoint_path(RUN)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedError, match=rf"{path} .*Received: .*({received})") as caught:
        store.checkpoint(RUN)
    assert "remove it: the run then begins anew" in str(caught.value)


def test_a_checkpoint_of_before_checksums_is_read(store):
    store.write_checkpoint(RUN, notes(4), {"model_0": np.arange(3.0)})
    path = store.checkpoint_path(RUN)
    path.write_bytes(without_checksum(path.read_bytes()))
    assert store.checkpoint(RUN)[0]["step"] == 4


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
