"""The study of test-time statistics: values, sentences and the page that quotes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.studies import inference as measurements
from paper_figures import report
from paper_figures import test_time as study
from paper_figures import test_time_findings as findings
from paper_figures.__main__ import write_study
from paper_figures.load import VALIDATION, Scale, load_paper, load_scale
from paper_figures.statistics import Estimate

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).resolve().parents[2]


def made(rows, total_steps=10):
    """A scale of the measurements `arm, seed, step, measure, value`, all runs finished."""
    table = pd.DataFrame(rows, columns=["arm", "seed", "step", "measure", "value"])
    table = table.assign(run=table["arm"], status="finished", total_steps=total_steps)
    runs = table[["arm", "seed", "status"]].drop_duplicates()
    manifest = {"scale": "test_time", "arms": [], "notes": [], "protocol": {"source": "digits:2"}}
    return Scale(manifest, runs, table, total_steps)


def test_total_norm_is_over_layers_and_growth_since_the_warm_up():
    scale = made(
        [
            ("a", 0, step, f"weight_norm_layer_0{layer}", factor * norm)
            for step, factor in ((1, 1.0), (10, 2.0))
            for layer, norm in ((1, 3.0), (2, 4.0))
        ]
    )
    assert findings.total_norm(scale, "a")["value"].tolist() == [5.0, 10.0]
    assert findings.growth(scale, "a").to_dict() == {0: 2.0}


def test_members_are_in_the_order_of_their_numbers():
    names = [f"accuracy_minibatch_{size:03}_percent" for size in (16, 2, 512)]
    scale = made([("a", 0, 10, name, 50.0) for name in [*names, "accuracy_running_percent"]])
    found = findings.members(scale, "a", r"accuracy_minibatch_(\d+)_percent")
    assert found == {2.0: names[1], 16.0: names[0], 512.0: names[2]}


def test_final_values_and_noise():
    scale = made([("a", 0, 5, "m", 1.0), ("a", 0, 10, "m", 2.0), ("a", 1, 5, "m", 3.0)])
    assert findings.final(scale, "a", "m").to_dict() == {0: 2.0}
    assert findings.at_step(scale, "a", "m", 5).to_dict() == {0: 1.0, 1: 3.0}
    assert findings.noise_factor(1.0) == 1.0
    assert findings.noise_factor(0.4) == pytest.approx(0.5)
    assert findings.show(Estimate(1.0, 0.5, 1.5, 3)) == "1.0 [0.5, 1.5]"
    assert findings.show(Estimate(1.0, np.nan, np.nan, 1), 2) == "1.00"


def test_a_question_is_a_heading_and_its_answer():
    asked = study.QUESTIONS[1]
    heading, answer = study.write_question(1).split("\n\n")
    assert heading == f"## 1. {asked.question}"
    assert " ".join(answer.split()) == f"**{asked.answer}**"
    assert max(map(len, answer.splitlines())) <= 100


def test_findings_are_words_and_tables():
    table = pd.DataFrame([{"alpha": "0.1", "loss": "2"}])
    found = [findings.Finding("new:", table), findings.Finding("(n = 1.)")]
    expected = "new:\n\n| alpha | loss |\n| --- | --- |\n| 0.1 | 2 |\n\n(n = 1.)"
    assert findings.write(found) == expected


def test_a_diverged_run_counts_with_the_accuracy_of_chance():
    rows = [
        (arm, seed, step, measure, value)
        for arm in findings.WAYS
        for seed in (0, 1)
        for step in (1, 10)
        for measure, value in (
            (VALIDATION, 60.0 + 10 * seed if arm == "bn-32" else 60.0),
            ("training_loss", 2.0),
            ("weight_norm_layer_01", 1.0 * step),
            ("activation_rms_layer_01", 1.0),
            ("activation_rms_layer_02", 1.0 if step == 1 else 2.0 * 4**seed),
            ("normalized_rms_layer_01", 1.25),
            ("normalized_rms_layer_02", 1.0),
        )
    ]
    scale = made([row for row in rows if row[:3] != ("constants-32", 1, 10)])
    lost = (scale.runs["arm"] == "constants-32") & (scale.runs["seed"] == 1)
    scale.runs.loc[lost, "status"] = "diverged"
    ways, _, layers, _ = findings.find_training(scale)
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
    scale = made(
        [
            (arm, seed, step, measure, value)
            for arm in ("bn-32", "bn-4")
            for seed in (0, 1)
            for step, small, large in ((5, 0.4, 0.1), (10, 0.2, 0.3))
            for measure, value in (
                ("stddev_distance_alpha_0.3", large),
                ("stddev_distance_alpha_0.03", small),
                ("mean_distance_still", 0.125),
                ("stddev_distance_still", 0.25),
                ("minibatch_mean_noise", np.sqrt(measurements.NOISE_MINIBATCHES)),
            )
        ]
    )
    table = findings._as_it_settles(scale).set_index("alpha")
    assert table.columns.tolist()[:2] == ["bn-32, step 5", "bn-32, step 10"]
    assert table["bn-32, step 10"].tolist()[:2] == ["0.200 [0.200, 0.200]", "0.300 [0.300, 0.300]"]
    assert table.loc["nearest"].tolist() == ["0.3", "0.03", "0.3", "0.03"]
    still = findings._still(scale)["bn-4"].tolist()
    assert [value.split()[0] for value in still] == ["0.125", "1.000", "0.250"]


def test_answers_have_two_sentences():
    for question in study.QUESTIONS.values():
        assert question.question.endswith("?")
        assert question.answer.count(". ") == 1
        assert question.answer.endswith(".")


def test_a_question_without_its_arms_is_left_out_with_the_reason():
    scale = made([("bn-32", 0, 10, "m", 1.0)])
    assert "brn-32, bn-4 not run" in study.QUESTIONS[2].missing(scale)


def test_the_files_of_a_question_that_is_left_out_are_removed(tmp_path):
    for name in ("figure_2.png", "finding_2.md", "notes.md"):
        (tmp_path / name).write_text("before", encoding="utf-8")
    write_study(made([("bn-32", 0, 10, "m", 1.0)]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.md", "notes.md"]


@pytest.mark.parametrize("name", ["test_time", "test_time_tiny_imagenet"])
def test_the_page_and_the_committed_files_say_what_the_results_say(name):
    scale = load_scale(ROOT / "results", name)
    folder = ROOT / "paper_figures" / "output" / name
    page = (ROOT / "docs" / "test-time-statistics.md").read_text(encoding="utf-8")
    for number, question in study.QUESTIONS.items():
        assert question.missing(scale) is None
        found = f"{findings.write(question.find(scale))}\n"
        assert (folder / f"finding_{number}.md").read_text(encoding="utf-8") == found
        asked = (folder / f"question_{number}.md").read_text(encoding="utf-8")
        assert asked == study.write_question(number)
        assert f"<!-- file test_time/question_{number}.md -->" in page
        assert f"<!-- file {name}/finding_{number}.md -->" in page
        assert f"../paper_figures/output/{name}/figure_{number}.png" in page


def test_the_report_has_questions_answers_and_tables():
    found = [findings.Finding("Loss, by alpha:", pd.DataFrame([{"alpha": "0.1", "loss": "<2"}]))]
    drawing = report.Drawing("study-1", b"", b"", "The caption.", "It does.", "1. Does it?", found)
    manifest = {"scale": "test_time", "title": "study", "notes": [], "core_hours": None}
    manifest |= {"protocol": {}, "environment": [], "missing": []}
    runs = pd.DataFrame({"status": ["finished"]})
    section = report.Section(Scale(manifest, runs, runs, 10), [drawing], [], table=None)
    page = report.build([section], load_paper(ROOT / "results"))
    for words in ("<h3>1. Does it?</h3>", "<strong>It does.</strong>", "Loss, by alpha:", "&lt;2"):
        assert words in page
    assert f'href="{report.STUDY_PAGE}"' in page
    assert (ROOT / "paper_figures" / "output" / report.STUDY_PAGE).resolve().exists()


def test_the_legend_of_the_averages_covers_no_curve():
    axes = study.QUESTIONS[1].draw(load_scale(ROOT / "results", "test_time")).axes[1]
    axes.figure.draw_without_rendering()
    box = axes.get_legend().get_window_extent()
    points = np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.lines])
    assert box.y1 < points[:, 1].min()


@pytest.mark.parametrize("number", study.QUESTIONS)
def test_figures_draw_what_was_measured(number):
    scale = load_scale(ROOT / "results", "test_time")
    figure = study.QUESTIONS[number].draw(scale)
    assert all(axes.get_xlabel() and axes.get_title() for axes in figure.axes)
    last = figure.axes[0].lines[-1 if number == 2 else 0]
    measure, arm = {
        1: ("accuracy_minibatch_512_percent", "bn-32"),
        2: ("changes_minibatch_512_percent", "bn-4"),
        3: ("training_loss", "constants-32"),
    }[number]
    assert last.get_ydata()[-1] == pytest.approx(findings.final(scale, arm, measure).mean())
    assert "n = " in study.QUESTIONS[number].caption(scale)
