"""The commands as a user runs them: the real grid's smoke protocol, through real processes."""

import json
import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from experiments.__main__ import main
from experiments.grid.runs import select_runs
from experiments.records.store import Store

pytestmark = pytest.mark.any_backend

ARMS = ("--protocol", "smoke", "--arms", "bn-32,brn-4", "--seeds", "0")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    run = [sys.executable, "-m", "experiments", "run", *ARMS, "--results", str(folder)]
    done = subprocess.run([*run, "--jobs", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "smoke-bn-32-s0: finished" in done.stdout + done.stderr
    assert "now: 2 finished" in done.stdout
    assert "smoke: 2 of 2 runs have ended, 0 of them diverged" in done.stdout
    assert "core-hours spent on them" in done.stdout
    return folder


def test_a_run_that_ended_is_not_repeated(results, capsys):
    path = results / "runs" / "smoke" / "smoke-brn-4-s0.json"
    before = path.read_bytes()
    assert main(["run", *ARMS, "--results", str(results)]) == 0
    assert "2 had ended before; now: none" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert not list((results / "checkpoints" / "smoke").glob("*.npz"))


def test_status_tells_what_is_done_and_what_remains(results, capsys):
    wanted = ["status", "--protocol", "smoke", "--arms", "bn-32,bn-4", "--seeds", "0"]
    assert main([*wanted, "--results", str(results)]) == 0
    out = capsys.readouterr().out
    assert "smoke-bn-32-s0" in out
    assert "finished" in out
    assert "1 of 2 runs have ended" in out
    assert "The rest takes about" in out


def test_collect_writes_one_tidy_table_and_its_manifest(results, capsys):
    assert main(["collect", *ARMS, "--results", str(results)]) == 0
    assert "12 more runs of the protocol were not asked for" in capsys.readouterr().out
    table = pd.read_csv(results / "smoke.csv")
    assert set(table["run"]) == {"smoke-bn-32-s0", "smoke-brn-4-s0"}
    assert table.groupby(["run", "step", "measure", "where", "at"], dropna=False).size().eq(1).all()
    result = json.loads((results / "runs" / "smoke" / "smoke-brn-4-s0.json").read_text())
    chosen = table.query("run == 'smoke-brn-4-s0' and measure == 'validation_accuracy_percent'")
    curve = {p["step"]: p["validation_accuracy_percent"] for p in result["curve"]}
    assert dict(zip(chosen["step"], chosen["value"], strict=True)) == curve
    manifest = json.loads((results / "smoke.json").read_text())
    assert [run["run"] for run in manifest["runs"]] == ["smoke-bn-32-s0", "smoke-brn-4-s0"]
    assert [arm["figure"] for arm in manifest["arms"]] == [1, 2]
    assert manifest["core_hours"] >= 0


def test_collect_takes_every_protocol_that_has_results(results, capsys):
    assert main(["collect", "--results", str(results)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{results / 'smoke.csv'}: 2 runs\n"
    assert captured.err.count("missing: smoke-") == 12


def test_collect_names_what_is_missing(results, capsys):
    wanted = ["collect", "--protocol", "smoke", "--arms", "bn-32,bn-4", "--seeds", "0"]
    assert main([*wanted, "--results", str(results)]) == 1
    assert capsys.readouterr().err == "missing: smoke-bn-4-s0\n"
    manifest = json.loads((results / "smoke.json").read_text())
    assert manifest["missing"] == ["smoke-bn-4-s0"]
    assert manifest["runs"][1] == {"run": "smoke-bn-4-s0", "arm": "bn-4", "seed": 0}
    assert manifest["studies"] == [
        {"name": "paper", "title": "the paper's arms", "arms": ["bn-32", "bn-4"], "seeds": [0]}
    ]
    described = manifest["arms"][1]
    assert (described["normalization"], described["group"], described["changes"]) == ("bn", 4, {})
    assert set(pd.read_csv(results / "smoke.csv")["run"]) == {"smoke-bn-32-s0"}


def test_a_changed_configuration_is_refused(results, capsys):
    path = results / "runs" / "smoke" / "smoke-bn-32-s0.json"
    text = path.read_text()
    path.write_text(text.replace('"width": 2', '"width": 3'))
    assert main(["status", *ARMS, "--results", str(results)]) == 1
    assert "width=3 (now 2)" in capsys.readouterr().err
    path.write_text(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--protocol", "huge"], "--protocol huge"),
        (["run", "--protocol", "smoke", "--arms", "bn-5"], "--arms bn-5"),
        (["run", "--protocol", "smoke", "--jobs", "0"], "--jobs 0"),
        (["prepare", "--dataset", "digits:9"], "length=9"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments, message, capsys):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--protocol", "--scale"])  # the old spelling
def test_list_names_every_run(option, capsys):
    assert main(["list", option, "digits"]) == 0
    out = capsys.readouterr().out
    assert "digits-brn-noniid-s2" in out
    assert out.count("section 4.3") == 9


def _group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_command_goes_on_from_its_checkpoint(tmp_path):
    arguments = ["run", "--protocol", "smoke", "--arms", "bn-noniid", "--seeds", "0,1"]
    command = [sys.executable, "-m", "experiments", *arguments, "--results", str(tmp_path)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    folder = tmp_path / "checkpoints" / "smoke"
    deadline = time.monotonic() + 600
    while not list(folder.glob("*.npz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    while _group_exists(process.pid):  # whoever trained for it ends soon, and frees the run
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path)
    for run in select_runs("smoke", ["bn-noniid"], [0, 1]):
        assert [point["step"] for point in store.result(run)["curve"]] == [2, 4, 6]
