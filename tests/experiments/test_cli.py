"""The commands as a user runs them: the real grid's smoke protocol, through real processes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main
from experiments.data.splits import DecodedSplit, Source
from experiments.grid.runs import select_runs
from experiments.records.store import Store
from experiments.training import workers

pytestmark = pytest.mark.any_backend

ARMS = ("--protocol", "smoke", "--arms", "bn-32,brn-4", "--seeds", "0")
TOGETHER = (*ARMS, "--coordinator", "localhost:1", "--process", "0", "--processes")


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


def test_what_was_stopped_before_it_began_had_not_ended(tmp_path, monkeypatch, capsys):
    stopped = workers.Outcome(signal=signal.SIGTERM)
    monkeypatch.setattr(workers, "run_all", lambda *_: stopped)
    assert main(["run", *ARMS, "--results", str(tmp_path)]) == workers.STOPPED
    assert "2 runs; 0 had ended before; now: none" in capsys.readouterr().out


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


def test_a_changed_configuration_is_named_beside_the_good_runs(results, capsys):
    path = results / "runs" / "smoke" / "smoke-bn-32-s0.json"
    text = path.read_text()
    path.write_text(text.replace('"width": 2', '"width": 3'))
    where = [*ARMS, "--results", str(results)]
    assert main(["status", *where]) == 1
    out = capsys.readouterr().out
    assert "width=3 (now 2)" in out
    assert "1 of 2 runs have ended" in out
    assert main(["collect", *where]) == 1
    assert "missing: smoke-bn-32-s0: Expected" in capsys.readouterr().err
    assert json.loads((results / "smoke.json").read_text())["damaged"] == ["smoke-bn-32-s0"]
    assert main(["run", *where]) == 1
    assert path.read_text() != text
    path.write_text(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--protocol", "huge"], "--protocol huge"),
        (["run", "--protocol", "smoke", "--arms", "bn-5"], "--arms bn-5"),
        (["run", "--protocol", "smoke", "--jobs", "0"], "--jobs 0"),
        (["run", "--protocol", "smoke", "--checkpoint-minutes", "nan"], "--checkpoint-minutes nan"),
        (["status", "--protocol", "smoke", "--seeds", ""], "--seeds ''"),
        (["status", "--protocol", "smoke", "--seeds", ","], "--seeds ','"),
        (["status", "--protocol", "smoke", "--seeds", "0,a"], "--seeds '0,a'"),
        (["status", "--protocol", "smoke", "--arms", " , "], "--arms ' , '"),
        (["status", "--protocol", "smoke", "--studies", ""], "--studies ''"),
        (["prepare", "--dataset", "digits:9"], "length=9"),
        (["run", *TOGETHER, "2", "--jobs", "2"], "--jobs 2 with 2 processes"),
        (["run", *TOGETHER, "3"], "divides the 2 minibatches of a step: 1, 2. Received: --proc"),
    ],
)
def test_bad_arguments_get_one_clear_line(arguments, message, capsys):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_class_with_too_few_images_for_an_arm_is_said_when_preparing(monkeypatch, capsys):
    labels = {"train": np.array([0, 0, 1, 1]), "validation": np.array([0, 0, 1])}
    splits = {name: DecodedSplit(of, np.zeros((len(of), 1, 1, 3))) for name, of in labels.items()}
    source = Source("imagenet2012", ("cat", "dog"), (1, 1, 3), **splits)
    monkeypatch.setattr("experiments.data.load.prepare", lambda *_, **__: source)
    assert main(["prepare", "--dataset", "imagenet2012", "--image-size", "1"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert all("validation images: Expected at least images_per_label=2" in w for w in warnings)
    assert any("imagenet, bn-noniid," in w and "1 of class 1" in w for w in warnings)


def test_names_may_have_blanks_around_them_and_count_once(capsys):
    wanted = ["--arms", "bn-32, brn-32,bn-32 ,", "--seeds", " 0, 0"]
    assert main(["list", "--protocol", "smoke", *wanted]) == 0
    assert capsys.readouterr().out.count("section 4.1") == 2


@pytest.mark.parametrize("option", ["--protocol", "--scale"])  # the old spelling
def test_list_names_every_run(option, capsys):
    assert main(["list", option, "digits"]) == 0
    out = capsys.readouterr().out
    assert "digits-brn-noniid-s2" in out
    assert out.count("section 4.3") == 3 * 5  # non-i.i.d. arms x seeds


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_after_a_signal_the_exit_code_tells_and_the_way_on_is_named(
    number, code, monkeypatch, capsys, tmp_path
):
    outcome = workers.Outcome(ended={"smoke-bn-32-s0": "stopped"}, signal=number)
    monkeypatch.setattr(workers, "run_all", lambda *_: outcome)
    assert main(["run", *ARMS, "--results", str(tmp_path)]) == code
    err = capsys.readouterr().err
    assert f"To go on: python -m experiments run {' '.join(ARMS)} --results {tmp_path}" in err


def test_status_can_be_watched_until_nothing_is_left(results, capsys):
    assert main(["status", *ARMS, "--results", str(results), "--watch", "0.1"]) == 0
    assert "2 of 2 runs have ended" in capsys.readouterr().out


def test_a_curve_is_written_at_each_evaluation(results):
    curve = pd.read_csv(results / "curves" / "smoke" / "smoke-brn-4-s0.csv")
    assert list(curve["step"]) == [2, 4, 6]


def test_a_file_s_protocol_is_known_by_its_name_once_it_was_run(tmp_path, capsys, monkeypatch):
    (tmp_path / "mine.toml").write_text('base = "smoke"\narms = ["bn-32"]\nseeds = [4]')
    monkeypatch.setattr(workers, "run_all", lambda *_: workers.Outcome())
    where = ["--results", str(tmp_path / "results")]
    assert main(["run", "--protocol", str(tmp_path / "mine.toml"), *where]) == 0
    (tmp_path / "mine.toml").unlink()
    capsys.readouterr()
    assert main(["status", "--protocol", "mine", *where]) == 0
    assert "mine-bn-32-s4" in capsys.readouterr().out


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
