"""A protocol from a file is collected, drawn and judged like a built-in one."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import main
from experiments.grid.runs import protocol_named, select_runs
from experiments.records.store import Store
from paper_figures.__main__ import main as draw

pytestmark = pytest.mark.any_backend

WHOLE = """
base = "tiny_imagenet"
title = "Disks and squares"
source = "folder:photos"
classes = 4
training_images = 800
steps = 300
evaluate_every = 100
seeds = [0, 1, 2]

[arms.bn-32]
[arms.brn-32]
[arms.bn-4]
[arms.brn-4]
[arms.bn-noniid]
[arms.bn-shuffled]
[arms.brn-noniid]
[arms.gn]

[arms.brn-4-wide]
base = "brn-4"
label = "BRN, 4, bounds 6 and 10"
bounds = "6/10"
"""
FEW = """
base = "smoke"
steps = 300
evaluate_every = 100
seeds = [0, 1, 2]

[arms.bn-4]
[arms.brn-4]
[arms.mine]
normalization = "brn"
group = 8
"""
OWN = """
base = "smoke"
[arms.mine]
group = 8
[arms.yours]
group = 16
"""
ENDS = {"bn-4": 50.0, "bn-noniid": 30.0, "bn-shuffled": 70.0}


def made_up(run):
    """A result whose accuracies climb to what the arm ends at."""
    protocol, end = run.protocol, ENDS.get(run.arm.name, 80.0)
    steps = range(protocol.evaluate_every, protocol.steps + 1, protocol.evaluate_every)
    environment = dict.fromkeys(
        ("backend", "backend_version", "device", "keras", "numpy", "python"), "made up"
    )
    return {
        "id": run.id,
        "status": "finished",
        "config": run.config(),
        "environment": {**environment, "cores": 2},
        "wall_time_s": 1800,
        "curve": [
            {
                "step": step,
                "training_loss": 1.0,
                "validation_accuracy_percent": end * step / protocol.steps + run.seed / 10,
                "r_clipped_percent": 1.0,
                "d_clipped_percent": 0.0,
            }
            for step in steps
        ],
    }


@pytest.fixture
def asked(tmp_path):
    """Writes a protocol's file and made-up results of its runs; returns the arguments."""

    def ask(text):
        file, store = tmp_path / "mine.toml", Store(tmp_path / "results")
        file.write_text(text)
        runs = select_runs(protocol_named(str(file)))
        for run in runs:
            store.write_result(run, made_up(run))
        store.keep_protocol(file)
        return ["--protocol", str(file), "--results", str(store.root)], store, runs

    return ask


def drawn(store, *protocol):
    output = store.root.parent / "figures"
    chosen = ["--protocol", *protocol] if protocol else []
    where = ["--results", str(store.root), "--output", str(output), "--formats", "png"]
    assert draw([*chosen, *where]) == 0
    index = json.loads((output / "index.json").read_text())
    shown = {entry["id"].removeprefix("mine/") for entry in index["exhibits"]
             if entry["section"] == "mine" and not entry["left_out"]}  # fmt: skip
    return output / "mine", shown


def test_its_runs_are_counted_collected_drawn_and_judged(asked, capsys):
    arguments, store, runs = asked(WHOLE)
    assert main(["status", *arguments]) == 0
    assert f"{len(runs)} of {len(runs)} runs have ended" in capsys.readouterr().out
    assert main(["collect", *arguments]) == 0
    table = pd.read_csv(store.root / "mine.csv")
    assert set(table["run"]) == {run.id for run in runs}
    folder, shown = drawn(store)
    assert not {"bounds", "alpha", "structure"} & shown  # nothing to compare in them
    assert {"figure_1", "figure_2", "group_size", "claims", "table"} <= shown
    verdicts = pd.read_csv(folder / "claims.csv").query("part == 'end'").set_index("claim")
    expected = {"C1": 0.0, "C2": 30.0, "C3a": 30.0, "C5b": 40.0, "C9c": 50.0}
    assert verdicts.loc[list(expected), "difference"].to_dict() == pytest.approx(expected)
    assert verdicts.loc["C5b", ["verdict", "n"]].tolist() == ["reproduced", 3]
    assert "| brn-4-wide | 80.1" in (folder / "more_rows.md").read_text()
    assert "Disks and squares" in (folder / "captions.md").read_text()


def test_by_name_and_among_all_it_is_the_same(asked):
    arguments, store, _ = asked(WHOLE)
    assert main(["collect", *arguments]) == 0
    paths = store.root / "mine.csv", store.root / "mine.json"
    written = [path.read_bytes() for path in paths]
    for chosen in (["--protocol", "mine"], []):
        for path in paths:
            path.unlink()
        assert main(["collect", *chosen, "--results", str(store.root)]) == 0
        assert [path.read_bytes() for path in paths] == written
    assert main(["status", "--protocol", "mine", "--results", str(store.root)]) == 0


def test_a_damaged_result_is_named_and_the_others_are_drawn_and_judged(asked, capsys):
    arguments, store, runs = asked(WHOLE)
    store.result_path(runs[0]).write_text("{")
    for command in ("status", "collect"):
        assert main([command, *arguments]) == 1
        captured = capsys.readouterr()
        assert str(store.result_path(runs[0])) in captured.out + captured.err
    folder, _ = drawn(store, "mine")
    verdicts = pd.read_csv(folder / "claims.csv").query("part == 'end'").set_index("claim")
    assert verdicts.loc["C1", ["n", "expected"]].tolist() == [2, 3]
    assert runs[0].arm.name in verdicts.loc["C1", "note"]


def test_a_claim_is_judged_wherever_its_arms_are(asked):
    arguments, store, _ = asked(FEW)
    assert main(["collect", *arguments]) == 0
    folder, shown = drawn(store)
    assert "figure_2" in shown
    verdicts = pd.read_csv(folder / "claims.csv").query("verdict.notna()").set_index("claim")
    assert verdicts["verdict"].to_dict() == {"C3a": "reproduced", "C3b": "reproduced"}
    assert np.isclose(verdicts.loc["C3a", "difference"], 30)


def test_arms_that_the_paper_does_not_have_are_shown_too(asked):
    arguments, store, _ = asked(OWN)
    assert main(["collect", *arguments]) == 0
    folder, shown = drawn(store)
    assert "table" in shown
    assert "mine" in (folder / "more_rows.md").read_text()


def test_results_of_a_protocol_that_nobody_knows_do_not_keep_the_others(asked, capsys):
    _, store, runs = asked(OWN)
    (store.root / "runs" / "unknown").mkdir()
    (store.root / "runs" / "unknown" / "unknown-bn-4-s0.json").write_text("{}")
    assert main(["collect", "--results", str(store.root)]) == 1
    captured = capsys.readouterr()
    assert f"mine.csv: {len(runs)} runs" in captured.out
    assert "unknown" in captured.err
