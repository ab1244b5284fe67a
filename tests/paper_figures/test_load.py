"""Reading collected results: what fits is read, what does not is refused by name."""

import json

import pandas as pd
import pytest
from figures_fixtures import LABELS, fields_of, rows_of, write_results

from paper_figures.load import (
    MINIBATCH,
    REPOSITORY_RESULTS,
    TRAINING,
    VALIDATION,
    ResultsError,
    describe_runs,
    find_protocols,
    load_paper,
    load_protocol,
)

pytestmark = pytest.mark.any_backend


def change_csv(folder, change):
    path = folder / "made-up.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def test_a_protocol_is_read_as_it_was_written(tmp_path):
    protocol = load_protocol(write_results(tmp_path), "made-up")
    assert (protocol.name, protocol.total_steps) == ("made-up", 1000)
    assert list(protocol.labels) == list(LABELS)
    assert protocol.labels["brn-4"] == "Batch Renorm, 4"
    assert len(protocol.runs) == 21
    values = protocol.values("bn-4")
    assert values["step"].tolist() == [100, 400, 700, 1000] * 3
    assert values["seed"].unique().tolist() == [0, 1, 2]
    assert protocol.values("bn-4", TRAINING).empty
    assert len(protocol.values("bn-noniid", MINIBATCH)) == 12


def test_a_run_that_diverged_before_any_measurement_is_not_missing(tmp_path):
    rows = rows_of("bn-4", 0)
    rows += [(*row[:-1], float("nan")) for row in rows_of("bn-4", 1, (100,), "diverged")]
    protocol = load_protocol(write_results(tmp_path, ["bn-4"], (0, 1), rows=rows), "made-up")
    assert protocol.diverged("bn-4") == [1]
    assert protocol.values("bn-4")["seed"].unique().tolist() == [0]


def test_find_protocols_wants_both_files(tmp_path):
    write_results(tmp_path, protocol="b")
    write_results(tmp_path, protocol="a")
    write_results(tmp_path, protocol="half")
    (tmp_path / "half.csv").unlink()
    assert find_protocols(tmp_path) == ["a", "b"]


def test_no_results_names_the_commands_that_make_them(tmp_path):
    with pytest.raises(ResultsError, match=r"run --protocol digits.*experiments collect") as error:
        find_protocols(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_an_uncollected_protocol_names_its_commands(tmp_path):
    with pytest.raises(ResultsError, match=r"cifar\.json.*run --protocol cifar"):
        load_protocol(write_results(tmp_path), "cifar")


def test_every_missing_run_is_named(tmp_path):
    write_results(tmp_path)
    lost = ["made-up-bn-4-s1", "made-up-brn-noniid-s2"]
    change_csv(tmp_path, lambda rows: rows[~rows["run"].isin(lost)])
    with pytest.raises(ResultsError, match=f"lacks 2 of the 21 .* Missing: {', '.join(lost)}"):
        load_protocol(tmp_path, "made-up")


def test_a_run_that_the_manifest_calls_missing_may_be_missing_and_no_other(tmp_path):
    lost = ["made-up-bn-4-s1", "made-up-bn-4-s2", "made-up-brn-noniid-s2"]
    protocol = load_protocol(write_results(tmp_path, missing=lost), "made-up")
    assert len(protocol.runs) == 18
    assert protocol.missing == {"bn-4": [1, 2], "brn-noniid": [2]}
    assert describe_runs(protocol.missing) == "bn-4 seeds 1, 2; brn-noniid seed 2"
    change_csv(tmp_path, lambda rows: rows[rows["run"] != "made-up-bn-32-s0"])
    with pytest.raises(ResultsError, match=r"lacks 1 of the 21 .* Missing: made-up-bn-32-s0\."):
        load_protocol(tmp_path, "made-up")


def test_a_run_called_missing_that_is_there_is_refused(tmp_path):
    write_results(tmp_path, missing=["made-up-bn-4-s1"])
    (tmp_path / "made-up.csv").rename(tmp_path / "former.csv")
    write_results(tmp_path / "all")
    (tmp_path / "all" / "made-up.csv").rename(tmp_path / "made-up.csv")
    with pytest.raises(ResultsError, match=r"calls missing\. Received: run=made-up-bn-4-s1"):
        load_protocol(tmp_path, "made-up")


def test_a_protocol_without_any_run_is_refused(tmp_path):
    write_results(tmp_path, ["bn-4"], (0, 1), missing=["made-up-bn-4-s0", "made-up-bn-4-s1"])
    with pytest.raises(ResultsError, match="lacks 2 of the 2"):
        load_protocol(tmp_path, "made-up")


def test_structures_studies_and_seeds(tmp_path):
    protocol = load_protocol(write_results(tmp_path, missing=["made-up-bn-4-s2"]), "made-up")
    assert protocol.structures == {"": "16 x 2"}
    names = ["bn-halves-4x8", "bn-noniid-8x4"]
    protocol.manifest["arms"] += [fields_of(name, names) for name in names]
    assert protocol.structures == {"": "16 x 2", "-4x8": "4 x 8"}
    assert protocol.study("paper") is None
    protocol.manifest["studies"] = [{"name": "paper", "arms": ["bn-4"], "seeds": [0, 2]}]
    assert protocol.study("paper")["arms"] == ["bn-4"]
    fewer = protocol.with_seeds([0, 2])
    assert fewer.values("bn-32")["seed"].unique().tolist() == [0, 2]
    assert fewer.missing == {"bn-4": [2]}
    assert protocol.with_seeds([0, 1]).missing == {}
    assert len(fewer.runs) == 13


def test_an_unknown_column_is_refused(tmp_path):
    write_results(tmp_path)
    change_csv(tmp_path, lambda rows: rows.rename(columns={"value": "accuracy"}))
    with pytest.raises(ResultsError, match=r"Received: columns=.*,measure,where,at,accuracy"):
        load_protocol(tmp_path, "made-up")


def test_another_protocols_manifest_is_refused(tmp_path):
    write_results(tmp_path, protocol="digits")
    for kind in ("csv", "json"):
        (tmp_path / f"digits.{kind}").rename(tmp_path / f"cifar.{kind}")
    with pytest.raises(ResultsError, match=r"the protocol 'cifar'\. Received: scale='digits'"):
        load_protocol(tmp_path, "cifar")


def test_runs_that_the_manifest_does_not_expect_are_refused(tmp_path):
    write_results(tmp_path)
    write_results(tmp_path / "other", ["bn-4"], protocol="digits")
    (tmp_path / "other" / "digits.csv").replace(tmp_path / "made-up.csv")
    with pytest.raises(ResultsError, match="Received: run=digits-bn-4-s0, digits-bn-4-s1"):
        load_protocol(tmp_path, "made-up")


@pytest.mark.parametrize(
    ("column", "value", "received"),
    [
        ("status", "running", "status=running"),
        ("seed", 7, "run=made-up-bn-4-s0"),
        ("step", 100, "run=made-up-bn-4-s0"),
        ("status", "diverged", "run=made-up-bn-4-s0"),
        ("value", None, "run=made-up-bn-4-s0"),
        ("value", 101.5, "value=101.5"),
        ("total_steps", 999, "total_steps=999"),
    ],
)
def test_a_row_that_breaks_the_format_is_refused(tmp_path, column, value, received):
    write_results(tmp_path, ["bn-4"], seeds=(0,))

    def spoil(rows):
        rows[column] = rows[column].where(rows.index != 3, value)
        return rows

    change_csv(tmp_path, spoil)  # row 3 is a validation accuracy at step 400
    with pytest.raises(ResultsError, match=f"Received: {received}"):
        load_protocol(tmp_path, "made-up")


def test_a_run_without_validation_accuracy_is_refused_and_other_measures_are_welcome(tmp_path):
    rows = [(*row[:6], "training_loss_max", "", "", 0.5) for row in rows_of("bn-4", 0)[::2]]
    write_results(tmp_path, ["bn-4"], (0,), rows=rows + rows_of("bn-4", 0))
    assert len(load_protocol(tmp_path, "made-up").values("bn-4", "training_loss_max")) == 4
    write_results(tmp_path, ["bn-4"], (0,), rows=rows)
    with pytest.raises(ResultsError, match=r"validation_accuracy_percent. Received: run=made-up-"):
        load_protocol(tmp_path, "made-up")


def test_values_that_are_no_numbers_are_refused(tmp_path):
    rows = [(*row[:-1], "much") for row in rows_of("bn-4", 0)]
    write_results(tmp_path, ["bn-4"], rows=rows)
    with pytest.raises(ResultsError, match=r"not a readable CSV file.*'much'"):
        load_protocol(tmp_path, "made-up")


@pytest.mark.parametrize("key", ["notes", "core_hours"])
def test_a_manifest_without_a_key_is_refused(tmp_path, key):
    write_results(tmp_path)
    path = tmp_path / "made-up.json"
    manifest = json.loads(path.read_text())
    del manifest[key]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ResultsError, match=f"Received: no {key}"):
        load_protocol(tmp_path, "made-up")


def test_a_manifest_that_expects_nothing_or_is_no_json_is_refused(tmp_path):
    write_results(tmp_path, arms=())
    with pytest.raises(ResultsError, match=r"Received: runs=\[\]"):
        load_protocol(tmp_path, "made-up")
    (tmp_path / "made-up.json").write_text("{")
    with pytest.raises(ResultsError, match="is not JSON"):
        load_protocol(tmp_path, "made-up")


def test_the_papers_table_agrees_with_the_maxima_of_its_curves(tmp_path):
    paper = load_paper(tmp_path)  # falls back to the repository's files
    assert len(paper.table) == 9
    assert paper.table["row"].is_unique
    assert set(paper.table["measure"]) == {VALIDATION, TRAINING, MINIBATCH}
    assert set(paper.table["source"]) == {"Ioffe 2017, arXiv:1702.03275v2"}
    for row in paper.table.itertuples():
        curve = paper.curve(row.arm, row.measure)
        assert curve["step"].is_monotonic_increasing
        if row.row == "bn-4":  # reported at 210k steps, after the end of the curve
            assert row.step == 210_000 > curve["step"].max()
            assert curve["accuracy_percent"].max() == pytest.approx(73.74)
            assert row.value_percent == 74.2
        else:
            assert row.value_percent == pytest.approx(curve["accuracy_percent"].max(), abs=0.15)


def test_the_papers_curve_of_the_damage():
    curve = load_paper(REPOSITORY_RESULTS).curve("bn-noniid")
    highest = curve.loc[curve["accuracy_percent"].idxmax()]
    assert highest["step"] == 49_054
    assert curve["accuracy_percent"].iloc[-1] == pytest.approx(55.21)


def test_the_papers_files_in_the_results_folder_come_first(tmp_path):
    text = (REPOSITORY_RESULTS / "paper_curves.csv").read_text()
    (tmp_path / "paper_curves.csv").write_text(
        text.replace("3,bn-noniid,validation,", "3,x,train,")
    )
    with pytest.raises(ResultsError, match="Received: accuracy_on=train"):
        load_paper(tmp_path)


def test_a_measure_of_several_places_is_read_by_place(tmp_path):
    rows = rows_of("bn-4", 0)
    for step, at, value in ((100, "10", 1.0), (100, "9", 2.0), (400, "9", 3.0)):
        rows.append((*rows[0][:4], step, rows[0][5], "norm", "layer", at, value))
    protocol = load_protocol(write_results(tmp_path, ["bn-4"], (0,), rows=rows), "made-up")
    assert protocol.values("bn-4", "norm").empty
    assert protocol.values("bn-4", "norm", "layer", "9")["value"].tolist() == [2, 3]
    assert list(protocol.places("bn-4", "norm", "layer")) == ["10", "9"]


def test_arms_are_found_by_what_the_manifest_says_of_them(tmp_path):
    protocol = load_protocol(write_results(tmp_path), "made-up")
    assert protocol.find(sampling="adjacent", normalization="brn") == ["brn-noniid"]
    assert protocol.find(paper="bn-halves", labels=4) == []
    protocol.manifest["arms"][0]["changes"] = {"image_size": 8}
    settings = [
        protocol.setting("bn-32", name) for name in ("group", "image_size", "optimizer", "x")
    ]
    assert settings == [32, 8, "none", None]
    assert protocol.chance == 1
    assert protocol.epochs() == 1000 * 8 * 32 / 20_000
