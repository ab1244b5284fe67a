"""Figures 1 to 3 and the table, on made-up runs."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures_fixtures import LABELS, protocol_of, rows_of, write_results

from paper_figures.exhibits import comparison, paper
from paper_figures.exhibits.paper import CURVES, View
from paper_figures.load import (
    MINIBATCH,
    TRAINING,
    TRAINING_MODE,
    Results,
    load_paper,
    load_protocol,
)

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def reported():
    return load_paper(Path("nowhere"))


@pytest.fixture
def view(reported, tmp_path):
    """From a figure's number and what `write_results` takes, to the figure."""

    def make(number, *arguments, **named):
        protocol = load_protocol(write_results(tmp_path, *arguments, **named), "made-up")
        return View(number, protocol, reported, (16, 2) if number == 3 else None)

    return make


def shown_table(protocol, reported):
    return comparison.show_comparison(comparison.comparison(protocol, reported)).set_index("row")


def test_a_figure_whose_runs_are_all_missing_is_left_out(view):
    lost = [f"made-up-{arm}-s0" for arm in ("bn-4", "brn-4")]
    assert paper.left_out(view(2, seeds=(0,), missing=lost)) == (
        "Figure 2 is left out: none of its runs has ended."
    )
    assert paper.left_out(view(1, seeds=(0,), missing=lost)) == ""


def test_an_evaluation_that_was_not_made_is_named_unless_the_paper_has_it_not(view):
    rows = [row for arm in LABELS for row in rows_of(arm, 0) if row[6] != MINIBATCH]
    assert paper.left_out(view(3, seeds=(0,), rows=rows)) == (
        f"Figure 3 is left out: no {MINIBATCH} of bn-noniid was measured."
    )
    assert TRAINING_MODE not in {row[6] for row in rows}


def two_structures():
    """16 x 2 and 4 x 8 with the same ends, and a control for one of them."""
    ends = {"brn-noniid": 27, "bn-halves": 25, "bn-noniid": 20}
    measured = {arm + at: [end] * 3 for at in ("", "-4x8") for arm, end in ends.items()}
    for at in ("", "-4x8"):
        measured[f"bn-noniid{at}", MINIBATCH] = measured[f"bn-noniid{at}", TRAINING] = [22] * 3
    measured["bn-noniid-4x8", TRAINING_MODE] = [[12] * 7 + [15]] * 3
    measured["bn-shuffled-4x8"] = [29, 29, 26]
    measured["bn-shuffled-4x8", TRAINING_MODE] = [30] * 3
    return protocol_of(measured)


def test_figure_3_comes_for_every_structure_with_differences_where_there_is_a_control(reported):
    own, other = list(paper.views(two_structures(), reported))[2:]
    assert (own.name, other.name) == ("figure_3", "figure_3_4x8")
    assert len(paper.draw(own).axes) == 2  # no control ran there
    ours, theirs, below, below_theirs = paper.draw(other).axes
    names = ours.get_legend_handles_labels()[1]
    assert names[-1] == "bn-shuffled-4x8"
    assert "bn-noniid-4x8, in training mode" in names
    assert ours.lines[-1].get_linewidth() < 1 < ours.lines[0].get_linewidth()
    assert len(theirs.lines) == 6  # the paper's five, and its i.i.d. minibatches
    assert "Thin lines: controls, the same images shuffled" in paper.caption(other)
    assert "Thin lines" not in paper.caption(own)
    ends = [line.get_ydata()[-1] for line in below.lines[:-1]]
    # halves, minibatch statistics, training mode and bn-noniid; BRN and training images have none
    assert ends == pytest.approx([25 - 28, 22 - 28, 15 - 30, 20 - 28])
    assert len(below_theirs.lines) == 5  # four of validation images, and 0
    finding = paper.finding(other)
    assert finding.startswith("Figure 3, 4 x 8, made-up: brn-noniid-4x8 ends 7.0 points above ")
    assert "the paper: 23.2 points above" in finding
    assert "bn-noniid-4x8 ends 8.0 points below its control bn-shuffled-4x8 (n = 3" in finding


def test_the_papers_difference_is_to_its_iid_curve_of_the_same_normalization(reported):
    *_, below = paper.draw(list(paper.views(two_structures(), reported))[-1]).axes
    brn, _, _, bn = below.lines[:4]
    assert bn.get_ydata()[-1] == pytest.approx(55.2 - 78.2, abs=0.2)
    assert brn.get_ydata()[-1] == pytest.approx(0, abs=0.3)


def test_the_table_has_each_row_once_a_structure_and_the_papers_value_beside_it(reported):
    table = comparison.comparison(two_structures(), reported).set_index("arm")
    assert table.loc["bn-halves-4x8", ["row", "structure"]].tolist() == ["bn-halves", "4 x 8"]
    assert table.loc["bn-halves-4x8", ["paper_percent", "ours_final"]].tolist() == [77.4, 25]
    shown = shown_table(two_structures(), reported).index.tolist()
    assert shown.count("bn-halves, 16 x 2") == shown.count("bn-halves, 4 x 8") == 1
    assert "bn-32" in shown


def test_a_protocol_without_the_papers_arms_has_neither_figures_nor_table(reported):
    deep = [f"bn-{kind}-depth{depth}" for kind in ("noniid", "shuffled") for depth in (4, 8)]
    protocol = protocol_of({arm: [1] for arm in deep})
    protocol.manifest["arms"] = [arm for arm in protocol.manifest["arms"] if arm["arm"] in deep]
    results = Results(Path("nowhere"), [protocol], reported)
    assert list(paper.exhibits(results)) == list(comparison.exhibits(results)) == []


def test_a_single_seed_has_no_interval_and_says_so(view, reported):
    figure = view(1, seeds=(0,))
    assert "n = 1, a single seed: no interval." in paper.caption(figure)
    assert "brn-32 ends 0.5 points above bn-32 (n = 1, so no interval;" in paper.finding(figure)
    assert len(paper.draw(figure).axes[0].collections) == 0
    shown = shown_table(figure.protocol, reported)
    assert shown.loc["bn-4"].tolist() == ["74.2 at 210k", "73.7", "89.4", "89.4", "1"]


def test_a_diverged_run_is_counted_and_shown_up_to_its_end(view, reported):
    rows = rows_of("bn-4", 0) + rows_of("bn-4", 1)
    rows += rows_of("brn-4", 0) + rows_of("brn-4", 1, (100, 400), "diverged")
    rows += [(*row[:-1], float("nan")) for row in rows_of("brn-4", 1, (450,), "diverged")]
    figure = view(2, ["bn-4", "brn-4"], (0, 1), rows=rows)
    assert "Diverged: brn-4 seed 1;" in paper.caption(figure)
    assert "1 of brn-4's runs diverged" in paper.finding(figure)
    table = comparison.comparison(figure.protocol, reported).set_index("row")
    before = figure.protocol.values("brn-4").query("seed == 1")["value"].iloc[-1]  # at step 400
    last = figure.protocol.values("brn-4").query("seed == 0")["value"].iloc[-1]
    assert table.loc["brn-4", "ours_final"] == pytest.approx((before + last) / 2)
    assert table.loc["brn-4", ["n", "diverged"]].tolist() == [2, 1]
    assert comparison.show_comparison(table.reset_index())["n"][3] == "2 (1 diverged)"
    crosses = [line for line in paper.draw(figure).axes[0].lines if line.get_marker() == "X"]
    assert [line.get_xydata().tolist() for line in crosses] == [[[0.4, pytest.approx(before)]]]


def test_the_finding_is_the_paired_difference_of_the_final_values(view):
    # by construction 94 (1 - e^-5) - 90 (1 - e^-5) = 4.0 points in every seed
    assert paper.finding(view(2)).startswith(
        "Figure 2, made-up: brn-4 ends 4.0 points above bn-4 (n = 3, 95 % interval [4.0, 4.0]; "
        "the paper: 2.8 points above); bn-4 ends at 89.9 %, and the mean curve of "
        "brn-4 reaches it at step 700 of 1,000"
    )


def test_the_finding_of_figure_3_covers_all_its_curves(view):
    finding = paper.finding(view(3))
    # every comparison is with bn-noniid on validation images, which loses 10 points on the way
    assert "bn-noniid on training images ends 10.0 points above bn-noniid (n = 3," in finding
    assert "bn-noniid with minibatch statistics ends 18.0 points above bn-noniid (n = 3," in finding
    assert "bn-halves ends 22.9 points above" in finding
    assert "brn-noniid ends 24.9 points above" in finding


def test_an_interval_with_zero_inside_is_called_so(view):
    # differences of 0.5 and -1.5: their mean is -0.5, half the interval 12.7
    rows = rows_of("brn-32", 0) + rows_of("brn-32", 1) + rows_of("bn-32", 0)
    rows += [(*row[:-1], row[-1] + 2) for row in rows_of("bn-32", 1)]
    assert (
        "brn-32 ends 0.5 points below bn-32 (n = 2, 95 % interval [-13.2, 12.2], which includes 0"
        in paper.finding(view(1, ["bn-32", "brn-32"], (0, 1), rows=rows))
    )


def test_two_seeds_and_three_are_named_and_bands_are_drawn(view):
    rows = [row for arm in ("bn-4", "brn-4") for seed in (0, 1, 2) for row in rows_of(arm, seed)]
    lost = [row if row[0] != "made-up-brn-4-s2" else (*row[:3], "diverged", *row[4:9], None)
            for row in rows]  # fmt: skip
    ours = paper.draw(view(2, ["bn-4", "brn-4"], rows=lost)).axes[0]
    assert "mean of n = 2 to 3 seeds, band: 95 % t interval" in ours.get_title()
    assert len(ours.collections) == 2


def test_curves_are_drawn_over_the_fraction_of_training(view):
    ours, theirs = paper.draw(view(2, seeds=(0, 1))).axes
    assert ours.get_title().startswith("Ours (made up in miniature)\nmean of n = 2 seeds")
    assert theirs.get_title().startswith("The paper (ImageNet, Inception-v3)")
    assert theirs.get_ylim() == (30, 80)
    np.testing.assert_allclose(ours.lines[0].get_xdata(), [0.1, 0.4, 0.7, 1.0])
    assert ours.lines[0].get_ydata()[-1] == pytest.approx(90.25 * (1 - np.exp(-5)))
    assert max(theirs.lines[1].get_xdata()) == pytest.approx(159_966 / 160_000)
    assert [label.get_text() for label in theirs.get_xticklabels()][2] == "0.5\n80k"
    assert [label.get_text() for label in ours.get_xticklabels()][2] == "0.5\n500"


def test_the_axis_starts_after_a_tenth_of_training_but_shows_early_divergence(view):
    rows = [row for arm in ("bn-4", "brn-4") for row in rows_of(arm, 0, (20, 100, 1000))]
    plain = paper.draw(view(2, ["bn-4", "brn-4"], (0,), rows=rows))
    first, last = 90 * (1 - np.exp(-0.5)), 94 * (1 - np.exp(-5))
    limits = 1.05 * first - 0.05 * last, 1.05 * last - 0.05 * first
    assert plain.axes[0].get_ylim() == pytest.approx(limits)
    rows += rows_of("bn-4", 1, (20,), "diverged") + rows_of("brn-4", 1)
    early = paper.draw(view(2, ["bn-4", "brn-4"], (0, 1), rows=rows))
    assert early.axes[0].get_ylim()[0] < 90.5 * (1 - np.exp(-0.1))


def test_one_colour_a_normalization_and_one_line_style_a_curve(view):
    colours = {"bn": set(), "brn": set()}
    for number in (1, 2, 3):
        figure = view(number, seeds=(0,))
        ours, theirs = paper.draw(figure, stacked=True).axes
        for arm, line, other in zip(figure.drawn.values(), ours.lines, theirs.lines, strict=False):
            assert line.get_color() == other.get_color()
            colours[figure.protocol.arms[arm]["normalization"]].add(line.get_color())
    assert {name: len(found) for name, found in colours.items()} == {"bn": 1, "brn": 1}
    assert len({(curve.arm, str(curve.line)) for curve in CURVES[3]}) == 6


def test_the_table_joins_every_row_of_the_paper(view, reported):
    protocol = view(1).protocol
    table = comparison.comparison(protocol, reported).set_index("row")
    assert table.index.tolist() == reported.table["row"].tolist()
    assert table.loc["bn-noniid", "paper_final_percent"] == 55.21
    # the seeds' curves are half a point apart, so s / sqrt(n) is 0.5 (1 - e^-5) / sqrt(3)
    half = 4.30265 * 0.5 * (1 - np.exp(-5)) / np.sqrt(3)
    brn_4 = table.loc["brn-4"]
    assert brn_4["ours_final"] == pytest.approx(94.5 * (1 - np.exp(-5)))
    assert brn_4["ours_final_high"] - brn_4["ours_final"] == pytest.approx(half, abs=0.001)
    assert brn_4["ours_maximum"] == brn_4["ours_final"]
    assert table.loc["bn-noniid", "ours_maximum"] > table.loc["bn-noniid", "ours_final"]
    shown = shown_table(protocol, reported).loc["brn-4"].tolist()
    assert shown == ["76.5 at 130k", "76.5", "93.9 [92.6, 95.1]", "93.9 [92.6, 95.1]", "3"]


def test_an_arm_that_the_paper_does_not_have_comes_in_a_table_of_its_own(
    tmp_path, reported, monkeypatch
):
    monkeypatch.setitem(LABELS, "brn-4-tight", ("4.2", None, "Batch Renorm, 4, tight bounds"))
    monkeypatch.setitem(sys.modules["figures_fixtures"].TOPS, "brn-4-tight", 92.0)
    protocol = load_protocol(
        write_results(tmp_path, ["bn-4", "brn-4-tight"], seeds=(0,)), "made-up"
    )
    protocol.manifest["arms"][1]["paper"] = None
    (table,) = comparison.exhibits(Results(tmp_path, [protocol], reported))
    paper_rows, more_rows = (table.tables[name][0].table for name in ("paper_rows", "more_rows"))
    assert len(paper_rows) == len(reported.table)
    assert more_rows.to_numpy().tolist() == [["brn-4-tight", "91.4", "91.4", "1"]]
    assert isinstance(table.numbers["table"], pd.DataFrame)
