"""The study of test-time statistics: values, sentences and the page that quotes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures_fixtures import fields_of

from experiments.studies import inference as measurements
from paper_figures.exhibits import inference as study
from paper_figures.exhibits import inference_findings as findings
from paper_figures.load import VALIDATION, Protocol, Results, load_protocol

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).resolve().parents[2]


def made(rows, total_steps=10):
    """A protocol of measurements `arm, seed, step, measure[, where, at], value`, all finished."""
    rows = [row if len(row) == 7 else (*row[:4], "", "", row[4]) for row in rows]
    columns = ["arm", "seed", "step", "measure", "where", "at", "value"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(run=table["arm"], status="finished", total_steps=total_steps)
    runs = table[["arm", "seed", "status"]].drop_duplicates()
    arms = list(dict.fromkeys(table["arm"]))
    manifest = {
        "scale": "made-up",
        "title": "made up",
        "classes": 100,
        "training_images": 1,
        "arms": [fields_of(arm, arms) for arm in arms],
        "studies": [{"name": study.STUDY, "arms": arms, "seeds": [0]}],
        "notes": [],
        "protocol": {"learning_rate": 0.1},
        "environment": [],
        "core_hours": None,
        "runs": [],
        "missing": [],
    }
    return Protocol(manifest, runs, table, total_steps)


def test_total_norm_is_over_layers_and_growth_since_the_warm_up():
    protocol = made(
        [
            ("a", 0, step, "weight_norm", "layer", layer, factor * norm)
            for step, factor in ((1, 1.0), (10, 2.0))
            for layer, norm in (("1", 3.0), ("2", 4.0))
        ]
    )
    norm = findings.total_norm(protocol, "a")
    assert norm["value"].tolist() == [5.0, 10.0]
    assert findings.growth(protocol, norm).to_dict() == {0: 2.0}


def test_places_are_in_the_order_of_their_numbers():
    rows = [("a", 0, 10, "accuracy_percent", "minibatch", n, 50.0) for n in ("16", "2", "512")]
    protocol = made([*rows, ("a", 0, 10, "accuracy_percent", "alpha", "0.1", 50.0)])
    assert list(findings.by_number(protocol, "a", "accuracy_percent", "minibatch")) == [2, 16, 512]


def test_final_values_and_noise():
    protocol = made([("a", 0, 5, "m", 1.0), ("a", 0, 10, "m", 2.0), ("a", 1, 5, "m", 3.0)])
    assert findings.final(protocol, "a", "m").to_dict() == {0: 2.0}
    assert findings.at_step(protocol.values("a", "m"), 5).to_dict() == {0: 1.0, 1: 3.0}
    assert findings.noise_factor(1.0) == 1.0
    assert findings.noise_factor(0.4) == pytest.approx(0.5)


def test_rates_are_told_by_the_setting():
    protocol = made([(arm, 0, 1, "m", 1.0) for arm in ("a", "b", "c")])
    protocol.arms["b"]["changes"]["learning_rate"] = 0.025
    protocol.arms["c"]["changes"]["learning_rate"] = 0.4
    assert [findings.rate_of(protocol, arm).split()[0] for arm in "abc"] == ["the", "a", "four"]


def test_a_diverged_run_counts_with_the_accuracy_of_chance():
    rows = [
        (arm, seed, step, *measure, value)
        for arm in findings.WAYS
        for seed in (0, 1)
        for step in (1, 10)
        for measure, value in (
            ((VALIDATION, "", ""), 60.0 + 10 * seed if arm == "bn-32" else 60.0),
            (("training_loss", "", ""), 2.0),
            (("weight_norm", "layer", "1"), 1.0 * step),
            (("activation_rms", "layer", "1"), 1.0),
            (("activation_rms", "layer", "2"), 1.0 if step == 1 else 2.0 * 4**seed),
            (("normalized_rms", "layer", "1"), 1.25),
            (("normalized_rms", "layer", "2"), 1.0),
        )
    ]
    protocol = made([row for row in rows if row[:3] != ("constants-32", 1, 10)])
    lost = (protocol.runs["arm"] == "constants-32") & (protocol.runs["seed"] == 1)
    protocol.runs.loc[lost, "status"] = "diverged"
    ways, _, layers = findings.find_training(protocol)
    table = ways.table.set_index("way")
    assert table.loc["constants-32 (a)", "accuracy, %"].startswith("30.5 ")  # of 60 and 1
    assert table["diverged runs"].tolist() == ["1", "0", "0", "0", "0", "0"]
    assert table.loc["bn-32 (d)", "accuracy, %"].startswith("65.0 ")
    assert table.loc["unclipped-32 (b)", "accuracy - (d)"].startswith("-5.0 ")  # 0 and -10
    assert table.loc["constants-32 (a)", "accuracy - (d)"].startswith("-34.5 ")  # 0 and -69
    layers = layers.table.set_index("way").loc["brn-32 (c)"]
    assert layers.tolist()[:2] == ["1.0 to 4.0", "1.00 to 1.25"]  # 4: geometric mean of 2 and 8


def test_fluctuation_is_that_of_a_run_after_a_step():
    rows = [(0, 1, 9.0), (0, 6, 1.0), (0, 8, 3.0), (1, 6, 5.0), (1, 8, 5.0)]
    values = pd.DataFrame(rows, columns=["seed", "step", "value"])
    assert findings._fluctuation(values, 5) == 1.0  # of the variances 2 and 0


def test_distances_by_alpha_name_the_nearest_and_the_still_ones_their_noise():
    protocol = made(
        [
            (arm, seed, step, *measure, value)
            for arm in ("bn-32", "bn-4")
            for seed in (0, 1)
            for step, small, large in ((5, 0.4, 0.1), (10, 0.2, 0.3))
            for *measure, value in (
                ("stddev_distance", "alpha", "0.3", large),
                ("stddev_distance", "alpha", "0.03", small),
                ("mean_distance_still", "", "", 0.125),
                ("stddev_distance_still", "", "", 0.25),
                ("minibatch_mean_noise", "", "", np.sqrt(measurements.NOISE_MINIBATCHES)),
            )
        ]
    )
    table = findings._as_it_settles(protocol).set_index("alpha")
    assert table.columns.tolist()[:2] == ["bn-32, step 5", "bn-32, step 10"]
    assert table["bn-32, step 10"].tolist()[:2] == ["0.200 [0.200, 0.200]", "0.300 [0.300, 0.300]"]
    assert table.loc["nearest"].tolist() == ["0.3", "0.03", "0.3", "0.03"]
    still = findings._still(protocol)["bn-4"].tolist()
    assert [value.split()[0] for value in still] == ["0.125", "1.000", "0.250"]


def test_a_question_without_its_arms_is_left_out_with_the_reason():
    results = Results(Path("nowhere"), [made([("bn-32", 0, 10, VALIDATION, 1.0)])], None)
    shown = list(study.exhibits(results))
    assert [one.name for one in shown] == ["figure_1", "figure_2", "figure_3"]
    assert shown[1].left_out == (
        "Minibatch-mates, structure and corruption is left out: no run of brn-32, bn-4 has ended."
    )


@pytest.mark.parametrize("name", ["test_time", "test_time_tiny_imagenet"])
def test_the_page_shows_every_figure_and_finding_of_both_protocols(collected, name):
    page = (ROOT / "docs" / "test-time-statistics.md").read_text(encoding="utf-8")
    results = Results(Path("nowhere"), [load_protocol(collected, name)], None)
    for number, shown in enumerate(study.exhibits(results), start=1):
        (asked,) = shown.tables[f"question_{number}"]
        heading, answer = asked.words.split("\n\n")
        assert heading.endswith("?")
        assert " ".join(answer.split()) == f"**{shown.finding}**"
        assert max(map(len, answer.splitlines())) <= 100
        assert "n = 5 seeds" in shown.caption
        assert f"<!-- file test_time/question_{number}.md -->" in page
        assert f"<!-- file {name}/finding_{number}.md -->" in page
        assert f"../paper_figures/output/{name}/figure_{number}.png" in page


def test_the_legend_of_the_averages_covers_no_curve(collected):
    axes = study.QUESTIONS[1].draw(load_protocol(collected, "test_time")).axes[1]
    axes.figure.draw_without_rendering()
    box = axes.get_legend().get_window_extent()
    points = np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.lines])
    assert box.y1 < points[:, 1].min()


@pytest.mark.parametrize("number", study.QUESTIONS)
def test_figures_draw_what_was_measured(collected, number):
    protocol = load_protocol(collected, "test_time")
    figure = study.QUESTIONS[number].draw(protocol)
    assert all(axes.get_xlabel() and axes.get_title() for axes in figure.axes)
    assert "n = 5 seeds" in figure.get_suptitle()
    last = figure.axes[0].lines[-1 if number == 2 else 0]
    arm, *place = {
        1: ("bn-32", "accuracy_percent", "minibatch", "512"),
        2: ("bn-4", "changes_percent", "minibatch", "512"),
        3: ("constants-32", "training_loss"),
    }[number]
    assert last.get_ydata()[-1] == pytest.approx(findings.final(protocol, arm, *place).mean())
