"""The command line, on made-up results: figures, captions, table and report."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figures_fixtures import LABELS, rows_of, scale_of, write_results

from paper_figures import captions, figures, report, tables
from paper_figures.__main__ import main, write_scale
from paper_figures.load import MINIBATCH, TRAINING, load_paper, load_scale
from paper_figures.speed import Speed
from paper_figures.statistics import Estimate

pytestmark = pytest.mark.any_backend

FILES = {f"figure_{number}.{kind}" for number in (1, 2, 3) for kind in ("pdf", "svg", "png")}
TEXTS = {"captions.md", "findings.md", "paper_rows.md", "table.csv", "table.md"}
MAGIC = {"pdf": b"%PDF-", "png": b"\x89PNG", "svg": b"<?xml"}


class Page(HTMLParser):
    """Collects a page's tags and text, and checks that every tag is closed in order."""

    EMPTY = ("meta", "img", "source", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def paper():
    return load_paper(Path("nowhere"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The output folder of one complete scale, and the folder of its results."""
    folder = tmp_path_factory.mktemp("complete")
    results = write_results(folder / "results")
    assert main(["--results", str(results), "--output", str(folder / "output")]) == 0
    return folder / "output", results


def load(folder, *arguments, **named):
    return load_scale(write_results(folder, *arguments, **named), "made-up")


def test_every_file_is_written_and_nothing_else(drawn):
    output, _ = drawn
    assert {path.name for path in output.iterdir()} == {"made-up", "report.html"}
    assert {path.name for path in (output / "made-up").iterdir()} == FILES | TEXTS
    for name in FILES:
        assert (output / "made-up" / name).read_bytes().startswith(MAGIC[name[-3:]])


def test_another_process_writes_the_same_bytes_and_says_where(drawn, tmp_path):
    output, results = drawn
    command = [sys.executable, "-m", "paper_figures", "--results", str(results), "--scale",
               "made-up", "--output", str(tmp_path)]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    for path in output.rglob("*.*"):
        copy = tmp_path / path.relative_to(output)
        assert copy.read_bytes() == path.read_bytes(), path.name
        assert f"wrote {copy}\n" in done.stdout
    assert done.stdout.count("Figure ") == 3
    assert done.stderr == ""


def test_files_carry_neither_date_nor_version(drawn):
    for name in FILES:
        data = (drawn[0] / "made-up" / name).read_bytes()
        for word in (b"CreationDate", b"dc:date", b"Matplotlib v", b"matplotlib.org"):
            assert word not in data


def test_the_report_is_one_whole_page_that_loads_nothing(drawn):
    text = (drawn[0] / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    loads = [value for _, attributes in page.tags for name, value in attributes.items()
             if name in ("src", "srcset", "href", "data", "action")]  # fmt: skip
    assert len(loads) == 6  # three figures, each wide and stacked
    assert all(value.startswith("data:image/svg+xml;base64,") for value in loads)
    assert not any(word in text for word in ("<script", "<link", "@import", "url("))
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )


def test_the_report_says_what_it_is_and_escapes_what_it_shows(drawn, paper):
    words = "".join(Page((drawn[0] / "report.html").read_text()).words)
    scale = load_scale(drawn[1], "made-up")
    for number in (1, 2, 3):
        assert captions.caption(number, scale) in words
        assert captions.finding(number, scale, paper) in words
    for part in (
        "This scale is a demonstration.",
        "Its numbers are <made up> & mean nothing.",
        "optimizer",
        "no machine at all",
        "21 runs, 0 of them diverged; 1.25 core hours.",
        "Ioffe 2017, arXiv:1702.03275v2",
        "78.6 in the legend of figure 3",
    ):
        assert part in words


def test_a_missing_run_fails_by_name_and_writes_nothing(tmp_path, capsys):
    rows = [row for seed in (0, 2) for row in rows_of("bn-4", seed)]
    write_results(tmp_path / "results", ["bn-4"], rows=rows)
    output = tmp_path / "output"
    assert main(["--results", str(tmp_path / "results"), "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Missing: made-up-bn-4-s1." in captured.err
    assert not output.exists()


def test_what_is_there_is_drawn_and_what_the_manifest_calls_missing_is_named(tmp_path, capsys):
    lost = [f"made-up-{arm}-s{seed}" for arm in ("bn-4", "bn-halves") for seed in (0, 1, 2)]
    lost += ["made-up-brn-32-s1", "made-up-bn-32-s0", "made-up-bn-32-s2"]
    write_results(tmp_path / "results", missing=lost)
    output = tmp_path / "output"
    assert main(["--results", str(tmp_path / "results"), "--output", str(output)]) == 0
    words = (output / "made-up" / "captions.md").read_text()
    for part in (
        "Not finished, so not in it: bn-32 seeds 0, 2; brn-32 seed 1.",
        "mean of n = 1 to 2 seeds",
        "no seed was measured both for brn-32 and bn-32",
        "Not finished, so not in it: bn-4 seeds 0, 1, 2.",
        "Figure 3, made-up: brn-noniid ends 24.9 points above bn-noniid (n = 3,",
        "no seed was measured both for bn-halves and bn-noniid",
    ):
        assert part in words
    table = pd.read_csv(output / "made-up" / "table.csv").set_index("row")
    assert table.loc["bn-4", ["status", "n", "expected"]].tolist() == ["missing", 0, 3]
    shown = (output / "made-up" / "table.md").read_text()
    assert "| bn-4 | 74.2 at 210k | 73.7 | missing | missing | - |" in shown
    assert "| 1 of 3 |\n" in shown
    page = "".join(Page((output / "report.html").read_text()).words)
    assert "9 of 21 runs are missing" in page
    assert "Missing: bn-4 seeds 0, 1, 2; bn-halves seeds 0, 1, 2; brn-32 seed 1; bn-32" in page
    assert capsys.readouterr().err == ""


def test_a_figure_whose_runs_are_all_missing_is_left_out(tmp_path):
    lost = [f"made-up-{arm}-s0" for arm in ("bn-4", "brn-4")]
    scale = load(tmp_path, seeds=(0,), missing=lost)
    assert captions.left_out(2, scale) == (
        "Figure 2 is left out: its runs are missing: bn-4 seed 0; brn-4 seed 0."
    )
    assert captions.left_out(1, scale) is None


def test_figure_3_and_the_table_for_every_structure_with_controls(tmp_path, paper):
    scale = two_structures()
    figure = figures.figure_3(scale, paper, structure="-4x8")
    ours, theirs = figure.axes
    names = ours.get_legend_handles_labels()[1]
    assert names[-1] == "bn-shuffled-4x8"
    assert ours.lines[-1].get_linewidth() < 1 < ours.lines[0].get_linewidth()
    assert len(theirs.lines) == 5
    assert len(figures.figure_3(scale, paper).axes[0].lines) == 5  # no control ran there
    assert captions.left_out(3, scale, "-4x8") is None
    caption = captions.caption(3, scale, "-4x8")
    assert caption.startswith("Figure 3, 4 x 8. Non-i.i.d. minibatches")
    assert "Thin lines: the same images" in caption
    assert "Thin lines" not in captions.caption(3, scale)
    finding = captions.finding(3, scale, paper, "-4x8")
    assert finding.startswith("Figure 3, 4 x 8, made-up: brn-noniid-4x8 ends 7.0 points above ")
    assert "the paper: 23.2 points above" in finding
    table = tables.comparison(scale, paper).set_index("arm")
    assert table.loc["bn-halves-4x8", ["row", "structure"]].tolist() == ["bn-halves", "4 x 8"]
    assert table.loc["bn-halves-4x8", ["paper_percent", "ours_final"]].tolist() == [77.4, 25]
    shown = tables.show_comparison(table.reset_index())["row"].tolist()
    assert shown.count("bn-halves, 16 x 2") == shown.count("bn-halves, 4 x 8") == 1
    assert "bn-32" in shown


def test_verdicts_are_written_and_shown(tmp_path, paper):
    ratios = pd.DataFrame(
        [("jax", "training step, BRN / BN", "64x32x32x3", 1.0, 1.0, 1.0)],
        columns=["backend", "name", "shape", "ratio", "q25", "q75"],
    )
    times = pd.DataFrame([("jax", "64x32x32x3", 21)], columns=["backend", "shape", "rounds"])
    section = write_scale(two_structures(), paper, tmp_path, Speed(times, ratios, []))
    shown = section.claims.set_index("claim")
    assert shown.loc["C9c, 4 x 8", "verdict"] == "reproduced"
    assert shown.loc["C12, jax", "verdict"] == "reproduced"
    assert "| C9c, 4 x 8 |" in (tmp_path / "claims.md").read_text()
    verdicts = (tmp_path / "verdicts.md").read_text()
    runs = len(section.scale.manifest["runs"])
    assert f"{runs} of {runs} runs have ended.\n\n**At the end, after 2 epochs.** " in verdicts
    assert "\n\n| claim | the paper says |" in verdicts
    table = pd.read_csv(tmp_path / "claims.csv")
    assert table.loc[table["claim"] == "C9c", "difference"].tolist() == [7, 7]
    page = Page(report.build([section], paper))
    assert page.open == []
    assert "and better than BN on them" in page.words
    assert (tmp_path / "figure_3_4x8.svg").exists()


def two_structures():
    """16 x 2 and 4 x 8 with the same ends, and a control for one of them."""
    ends = {"brn-noniid": 27, "bn-halves": 25, "bn-noniid": 20}
    measured = {arm + at: [end] * 3 for at in ("", "-4x8") for arm, end in ends.items()}
    for at in ("", "-4x8"):
        measured[f"bn-noniid{at}", MINIBATCH] = measured[f"bn-noniid{at}", TRAINING] = [22] * 3
    measured["bn-shuffled-4x8"] = [29] * 3
    return scale_of(measured, structures=("", "-4x8"))


def test_one_message_names_what_is_wrong_with_every_scale(tmp_path, capsys):
    write_results(tmp_path, scale="good")
    assert main(["--results", str(tmp_path), "--scale", "bad", "good", "worse"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("paper_figures: ")
    assert "run --scale bad`" in error
    assert "run --scale worse`" in error


def test_arms_of_one_figure_draw_that_figure_and_say_why_not_the_others(tmp_path, paper, capsys):
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "figure_3.png").write_text("of a former run")
    scale = load(tmp_path, ["bn-4", "brn-4", "bn-noniid"])
    section = write_scale(scale, paper, folder)
    assert {path.name for path in folder.glob("figure*")} == {f"figure_2.{k}" for k in MAGIC}
    assert [drawing.name for drawing in section.drawings] == ["figure_2"]
    reasons = [
        "Figure 1 is left out: the scale made-up does not run bn-32, brn-32.",
        "Figure 3 is left out: the scale made-up does not run brn-noniid, bn-halves.",
    ]
    assert section.left_out == reasons
    assert capsys.readouterr().out.endswith("\n".join([*reasons, ""]))
    shown = section.table.set_index("row")
    assert shown.loc["bn-32"].tolist()[2:] == ["not run", "not run", "-"]
    assert shown.loc["bn-noniid-training", "n"] == "3"


def test_an_evaluation_that_was_not_made_is_named(tmp_path):
    rows = [row for arm in LABELS for row in rows_of(arm, 0) if row[6] != MINIBATCH]
    scale = load(tmp_path, seeds=(0,), rows=rows)
    assert captions.left_out(3, scale) == (
        f"Figure 3 is left out: no {MINIBATCH} of bn-noniid was measured."
    )
    assert captions.left_out(2, scale) is None


def test_a_single_seed_has_no_interval_and_says_so(tmp_path, paper):
    scale = load(tmp_path, seeds=(0,))
    assert "n = 1, a single seed: no interval." in captions.caption(1, scale)
    assert "brn-32 ends 0.5 points above bn-32 (n = 1, so no interval;" in captions.finding(
        1, scale, paper
    )
    assert len(figures.figure_1(scale, paper).axes[0].collections) == 0
    shown = tables.show_comparison(tables.comparison(scale, paper)).set_index("row")
    assert shown.loc["bn-4"].tolist() == ["74.2 at 210k", "73.7", "89.4", "89.4", "1"]


def test_a_diverged_run_is_counted_and_shown_up_to_its_end(tmp_path, paper):
    rows = rows_of("bn-4", 0) + rows_of("bn-4", 1)
    rows += rows_of("brn-4", 0) + rows_of("brn-4", 1, (100, 400), "diverged")
    rows += [(*row[:-1], float("nan")) for row in rows_of("brn-4", 1, (450,), "diverged")]
    scale = load(tmp_path, ["bn-4", "brn-4"], (0, 1), rows=rows)
    assert "Diverged: brn-4 seed 1;" in captions.caption(2, scale)
    assert "1 of brn-4's runs diverged" in captions.finding(2, scale, paper)
    table = tables.comparison(scale, paper).set_index("row")
    before = scale.values("brn-4").query("seed == 1")["value"].iloc[-1]  # at step 400
    last = scale.values("brn-4").query("seed == 0")["value"].iloc[-1]
    assert table.loc["brn-4", "ours_final"] == pytest.approx((before + last) / 2)
    assert table.loc["brn-4", ["n", "diverged"]].tolist() == [2, 1]
    assert tables.show_comparison(table.reset_index())["n"][3] == "2 (1 diverged)"
    crosses = [line for line in figures.figure_2(scale, paper).axes[0].lines
               if line.get_marker() == "X"]  # fmt: skip
    assert [line.get_xydata().tolist() for line in crosses] == [[[0.4, pytest.approx(before)]]]


def test_the_finding_is_the_paired_difference_of_the_final_values(tmp_path, paper):
    # by construction 94 (1 - e^-5) - 90 (1 - e^-5) = 4.0 points in every seed
    finding = captions.finding(2, load(tmp_path), paper)
    assert finding.startswith(
        "Figure 2, made-up: brn-4 ends 4.0 points above bn-4 (n = 3, 95 % interval 4.0 to 4.0; "
        "the paper: 2.8 points above); bn-4 ends at 89.9 %, and the mean curve of "
        "brn-4 reaches it at step 700 of 1,000"
    )


def test_the_finding_of_figure_3_covers_all_its_curves(tmp_path, paper):
    finding = captions.finding(3, load(tmp_path), paper)
    # every comparison is with bn-noniid on validation images, which loses 10 points on the way
    assert "bn-noniid on training images ends 10.0 points above bn-noniid (n = 3," in finding
    assert "bn-noniid with minibatch statistics ends 18.0 points above bn-noniid (n = 3," in finding
    assert "bn-halves ends 22.9 points above" in finding
    assert "brn-noniid ends 24.9 points above" in finding


def test_an_interval_with_zero_inside_is_called_so(tmp_path, paper):
    # differences of 0.5 and -1.5: their mean is -0.5, half the interval 12.7
    rows = rows_of("brn-32", 0) + rows_of("brn-32", 1) + rows_of("bn-32", 0)
    rows += [(*row[:-1], row[-1] + 2) for row in rows_of("bn-32", 1)]
    finding = captions.finding(1, load(tmp_path, ["bn-32", "brn-32"], (0, 1), rows=rows), paper)
    assert (
        "brn-32 ends 0.5 points below bn-32 (n = 2, 95 % interval -13.2 to 12.2, which " in finding
    )


def test_two_seeds_and_three_are_named_and_bands_are_drawn(tmp_path, paper):
    rows = [row for arm in ("bn-4", "brn-4") for seed in (0, 1, 2) for row in rows_of(arm, seed)]
    lost = [row if row[0] != "made-up-brn-4-s2" else (*row[:3], "diverged", *row[4:7], None)
            for row in rows]  # fmt: skip
    scale = load(tmp_path, ["bn-4", "brn-4"], rows=lost)
    assert figures.describe_n(2, scale) == "mean of n = 2 to 3 seeds, band: 95 % t interval"
    assert len(figures.figure_2(scale, paper).axes[0].collections) == 2


def test_curves_are_drawn_over_the_fraction_of_training(tmp_path, paper):
    scale = load(tmp_path, seeds=(0, 1))
    figure = figures.figure_2(scale, paper)
    ours, theirs = figure.axes
    assert ours.get_title().startswith("Ours (made up in miniature)\nmean of n = 2 seeds")
    assert theirs.get_title().startswith("The paper (ImageNet, Inception-v3)")
    assert theirs.get_ylim() == (30, 80)
    np.testing.assert_allclose(ours.lines[0].get_xdata(), [0.1, 0.4, 0.7, 1.0])
    assert ours.lines[0].get_ydata()[-1] == pytest.approx(90.25 * (1 - np.exp(-5)))
    assert max(theirs.lines[1].get_xdata()) == pytest.approx(159_966 / 160_000)
    assert [label.get_text() for label in theirs.get_xticklabels()][2] == "0.5\n80k"
    assert [label.get_text() for label in ours.get_xticklabels()][2] == "0.5\n500"


def test_the_axis_starts_after_a_tenth_of_training_but_shows_early_divergence(tmp_path, paper):
    rows = [row for arm in ("bn-4", "brn-4") for row in rows_of(arm, 0, (20, 100, 1000))]
    plain = load(tmp_path, ["bn-4", "brn-4"], (0,), rows=rows)
    low, high = figures.figure_2(plain, paper).axes[0].get_ylim()
    first, last = 90 * (1 - np.exp(-0.5)), 94 * (1 - np.exp(-5))
    assert (low, high) == pytest.approx((1.05 * first - 0.05 * last, 1.05 * last - 0.05 * first))
    rows += rows_of("bn-4", 1, (20,), "diverged") + rows_of("brn-4", 1)
    early = load(tmp_path, ["bn-4", "brn-4"], (0, 1), rows=rows)
    assert figures.figure_2(early, paper).axes[0].get_ylim()[0] < 90.5 * (1 - np.exp(-0.1))


def test_one_colour_a_normalization_and_one_line_style_a_curve(tmp_path, paper):
    scale = load(tmp_path, seeds=(0,))
    colours = {}
    for number, draw in figures.FIGURES.items():
        ours, theirs = draw(scale, paper, stacked=True).axes
        for curve, line, other in zip(
            figures.CURVES[number], ours.lines[: len(theirs.lines)], theirs.lines, strict=True
        ):
            assert line.get_color() == other.get_color()
            colours.setdefault(curve.arm.split("-")[0], set()).add(line.get_color())
    assert {name: len(found) for name, found in colours.items()} == {"bn": 1, "brn": 1}
    looks = {(curve.colour, str(curve.line)) for curve in figures.CURVES[3]}
    assert len(looks) == 5


def test_the_table_joins_every_row_of_the_paper(drawn, paper):
    table = pd.read_csv(drawn[0] / "made-up" / "table.csv").set_index("row")
    assert table.index.tolist() == paper.table["row"].tolist()
    assert table.loc["bn-noniid", "paper_final_percent"] == 55.21
    # the seeds' curves are half a point apart, so s / sqrt(n) is 0.5 (1 - e^-5) / sqrt(3)
    half = 4.30265 * 0.5 * (1 - np.exp(-5)) / np.sqrt(3)
    brn_4 = table.loc["brn-4"]
    assert brn_4["ours_final"] == pytest.approx(94.5 * (1 - np.exp(-5)), abs=0.01)
    assert brn_4["ours_final_high"] - brn_4["ours_final"] == pytest.approx(half, abs=0.02)
    assert brn_4["ours_maximum"] == brn_4["ours_final"]
    assert table.loc["bn-noniid", "ours_maximum"] > table.loc["bn-noniid", "ours_final"]
    lines = (drawn[0] / "made-up" / "table.md").read_text().splitlines()
    assert len(lines) == 13
    assert lines[-2:] == ["", tables.NOTE]
    assert (
        lines[5]
        == "| brn-4 | 76.5 at 130k | 76.5 | 93.9 (92.6 to 95.1) | 93.9 (92.6 to 95.1) | 3 |"
    )


def test_an_arm_that_the_paper_does_not_have_comes_last(tmp_path, paper, monkeypatch):
    monkeypatch.setitem(LABELS, "brn-4-tight", ("4.2", None, "Batch Renorm, 4, tight bounds"))
    monkeypatch.setitem(sys.modules["figures_fixtures"].TOPS, "brn-4-tight", 92.0)
    shown = tables.show_comparison(
        tables.comparison(load(tmp_path, ["brn-4-tight"], seeds=(0,)), paper)
    )
    assert shown.iloc[-1].tolist() == ["brn-4-tight", "-", "-", "91.4", "91.4", "1"]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(74.25, 73.06, 75.44, 3), "74.2 (73.1 to 75.4)"),
        (Estimate(74.25, float("nan"), float("nan"), 1), "74.2"),
        (Estimate(float("nan"), float("nan"), float("nan"), 0), "not measured"),
    ],
)
def test_show_estimate(estimate, text):
    assert tables.show_estimate(estimate) == text


def test_an_interrupted_write_leaves_the_former_file(drawn, tmp_path, monkeypatch):
    path = tmp_path / "made-up" / "figure_1.pdf"
    path.parent.mkdir()
    path.write_text("former")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        main(["--results", str(drawn[1]), "--output", str(tmp_path)])
    assert path.read_text() == "former"
    assert list(path.parent.iterdir()) == [path]
