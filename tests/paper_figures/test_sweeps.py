"""Figures beyond the paper, on made-up runs: sweeps, bounds, depth and clipping."""

from pathlib import Path

import numpy as np
import pytest
from figures_fixtures import STEPS, protocol_of

from paper_figures.claims.numbers import SPIKES
from paper_figures.exhibits import bounds, clipping, depth, sweeps
from paper_figures.load import Results

pytestmark = pytest.mark.any_backend


def exhibit(family, name, protocol):
    """The exhibit of this name in a family."""
    found = family.exhibits(Results(Path("nowhere"), [protocol], None))
    return next(one for one in found if one.name == name)


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def points(axes):
    """Label -> the points of its line that are there."""
    lines = {c.get_label(): c[0].get_xydata() for c in axes.containers}
    return {name: xy[np.isfinite(xy[:, 1])].tolist() for name, xy in lines.items()}


def sizes(**more):
    about = {
        "bn-2": {"group": 2},
        "brn-2": {"group": 2},
        "bn-32": {},
        "brn-32": {},
        "gn": {"normalization": "gn"},
    }
    measured = {"bn-2": [10] * 3, "brn-2": [20] * 3, "bn-32": [30, 30, 30, 99], "gn": [25] * 3}
    missing = [("brn-32", seed) for seed in (0, 1, 2)]
    studies = {"group-size": list(about)}
    return protocol_of(measured, missing, about=about, studies=studies, **more)


def test_a_sweep_shows_the_end_against_the_setting_over_the_studys_seeds():
    shown = exhibit(sweeps, "group_size", sizes())
    axes = shown.draw(False).axes[0]
    assert points(axes) == {
        "BRN": [[2, 20]],
        "BN": [[2, 10], [32, 30]],
    }  # without seed 3
    assert set(axes.lines[-1].get_ydata()) == {25}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "32"]
    assert labels(axes) == ["gn", "BRN", "BN"]
    assert axes.get_title() == "made up, mean of n = 3 seeds, bars: 95 % t interval"


def test_words_and_table_of_a_sweep_give_pairs_n_and_what_is_missing():
    shown = exhibit(sweeps, "group_size", sizes())
    assert shown.finding == (
        "Group size, made-up: 2: brn-2 ends 10.0 points above bn-2 (n = 3, 95 % interval "
        "[10.0, 10.0]); 32: no seed was measured both for brn-32 and bn-32; gn ends at 25.0 "
        "[25.0, 25.0] %."
    )
    assert "mean of n = 3 seeds, bars: 95 % t interval." in shown.caption
    assert "Not finished, so not in it: brn-32 seeds 0, 1, 2." in shown.caption
    (part,) = shown.tables["group_size"]
    assert part.table.to_numpy().tolist() == [
        ["2", "10.0 [10.0, 10.0]", "20.0 [20.0, 20.0]", "10.0 [10.0, 10.0]", "3"],
        ["32", "30.0 [30.0, 30.0]", "not measured", "not measured", "0"],
    ]


def test_a_diverged_run_counts_with_chance_level_in_a_sweep():
    lost = [("brn-2", seed) for seed in (0, 1, 2)]
    shown = exhibit(sweeps, "group_size", sizes(diverged=lost))
    assert points(shown.draw(False).axes[0])["BRN"] == [[2, 0.5]]
    assert "A diverged run counts with 0.5 %, chance level." in shown.caption
    assert "Diverged: brn-2 seeds 0, 1, 2." in shown.caption


def test_no_line_is_drawn_over_a_structure_that_was_not_run():
    arms = [f"{kind}-noniid{at}" for at in ("", "-8x4", "-4x8") for kind in ("bn", "brn")]
    controls = ["bn-shuffled", "bn-shuffled-4x8"]
    measured = {arm: [10 + i] * 3 for i, arm in enumerate([*arms, *controls, "bn-32"])}
    protocol = protocol_of(measured, studies={"degree": arms})
    axes = exhibit(sweeps, "structure", protocol).draw(True).axes[0]
    assert points(axes) == {
        "BRN": [[2, 11], [4, 13], [8, 15]],
        "BN": [[2, 10], [4, 12], [8, 14]],
        "BN, the same images shuffled over the step": [[2, 16], [8, 17]],
    }
    control = axes.containers[2][0].get_ydata().astype(float)
    assert np.isnan(control).tolist() == [False, True, False]
    assert "bn-32" in labels(axes)
    assert "brn-32" not in labels(axes)  # has no run
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16 x 2", "8 x 4", "4 x 8"]


def test_alpha_is_the_arms_own_or_the_protocols():
    about = {"bn-4": {}, "bn-4-alpha-0.01": {"group": 4, "changes": {"alpha": 0.01}}}
    measured = {"bn-4": [2], "bn-4-alpha-0.01": [1]}
    protocol = protocol_of(measured, about=about, studies={"alpha": list(about)})
    axes = exhibit(sweeps, "alpha", protocol).draw(False).axes[0]
    assert points(axes) == {"BN": [[0.01, 1], [0.1, 2]]}


def test_bounds_are_curves_of_accuracy_and_loss():
    arms = ["brn-4", "brn-4-full"]
    measured = {arm: [30] * 3 for arm in arms} | {(arm, "training_loss"): [4] * 3 for arm in arms}
    shown = exhibit(bounds, "bounds", protocol_of(measured, studies={"bounds": arms}))
    figure = shown.draw(False)
    left, right = figure.axes
    assert labels(left) == arms
    assert set(right.lines[0].get_ydata()) == {4}
    assert len({line.get_color() for line in left.lines}) == 2
    assert "n = 3 seeds, band: 95 % t interval" in figure.get_suptitle()
    assert "brn-4-full ends 0.0 points above brn-4" in shown.finding


def test_spikes_are_counted_and_the_highest_loss_of_a_step_is_a_line_a_run():
    arms = ["brn-32-fast", "brn-32-fast-full"]
    highest = [[9] + [5] * 7, [40] + [4] * 7, [6] * 8]
    measured = {arm: [30] * 3 for arm in arms}
    measured |= {(arm, SPIKES): [[0] * 7 + [1], [1] * 8, [0] * 8] for arm in arms}
    measured |= {(arm, bounds.HIGHEST_LOSS): highest for arm in arms}
    shown = exhibit(bounds, "high_rate", protocol_of(measured, studies={"high-rate": arms}))
    right = shown.draw(True).axes[1]
    assert [line.get_ydata().tolist() for line in right.lines] == highest * 2
    assert right.get_yscale() == "log"
    np.testing.assert_allclose(right.lines[0].get_xdata(), [step / 800 for step in STEPS])
    assert "brn-32-fast has 1, 8, 0 loss spikes (n = 3)" in shown.finding
    assert "no step has a loss above 9.0, 40.0, 6.0" in shown.finding


def test_clipping_shows_the_papers_arms_overall_and_layers_of_one():
    falling = [80, 40, 20, 10, 8, 6, 4, 2]
    measured = {arm: [30] * 2 for arm in ("brn-32", "brn-4", "bn-32", "brn-shuffled", "brn-2")}
    for name in ("r_clipped_percent", "d_clipped_percent"):
        measured["brn-32", name] = measured["brn-shuffled", name] = [falling] * 2
        measured["brn-2", name] = [falling] * 2
        measured["brn-32", name, "layer", "10"] = [falling] * 2
        measured["brn-32", name, "layer", "9"] = [falling, [0] * 8]
    protocol = protocol_of(measured, about={"brn-2": {"paper": None}})
    shown = exhibit(clipping, "clipping", protocol)
    r, _, r_layers, *_ = shown.draw(False).axes
    assert [line.get_ydata().tolist() for line in r.lines] == [falling]
    mesh = r_layers.collections[0].get_array()
    assert mesh.shape == (2, 8)
    assert mesh[:, 0].tolist() == [40, 80]  # the mean over the seeds, the ninth layer first
    assert shown.finding == (
        "Clipping, made-up: at the end, brn-32 clips 2.00 % of r and 2.00 % of d (n = 2)."
    )


def test_depth_shows_how_far_each_arm_ends_below_its_control():
    ends = {("bn", 4): 1, ("bn", 16): 6, ("brn", 4): 0, ("brn", 16): 2}
    measured = {}
    for (kind, layers), damage in ends.items():
        measured[f"{kind}-noniid-depth{layers}"] = [10, 12, 14]
        measured[f"{kind}-shuffled-depth{layers}"] = [10 + damage, 12 + damage, 14 + damage]
    shown = exhibit(depth, "depth", protocol_of(measured))
    axes = shown.draw(False).axes[0]
    left, right = ([pytest.approx(n * by) for n in (4, 16)] for by in (1 / 1.01, 1.01))
    assert points(axes) == {
        "BN": [[left[0], 1], [left[1], 6]],
        "BRN": [[right[0], 0], [right[1], 2]],
    }
    assert "n = 3 seeds, bars: 95 % t interval" in axes.get_title()
    assert (
        "with 16 normalization layers bn-noniid-depth16 ends 6.0 points below its control (n = 3, "
        "95 % interval [6.0, 6.0])"
    ) in shown.finding
    (part,) = shown.tables["depth"]
    assert part.table.to_numpy().tolist()[1][:2] == ["BN", "16"]
    assert part.table.to_numpy().tolist()[1][4:] == ["6.0 [6.0, 6.0]", "3"]


def test_one_depth_is_no_figure():
    protocol = protocol_of({"bn-noniid-depth4": [1], "bn-shuffled-depth4": [1], "bn-noniid": [1]})
    assert list(depth.exhibits(Results(Path("nowhere"), [protocol], None))) == []


def test_a_study_without_runs_is_left_out_and_a_protocol_without_it_has_no_figure():
    protocol = protocol_of({"bn-4": [1]}, [("brn-4", 0)], studies={"bounds": ["brn-4"]})
    shown = exhibit(bounds, "bounds", protocol)
    assert shown.left_out == "Bounds is left out: no run of the study bounds has ended."
    assert not list(sweeps.exhibits(Results(Path("nowhere"), [protocol], None)))


def test_every_sweep_has_a_study_of_the_grid():
    from experiments.grid.runs import protocol_named

    known = {study.name for study in protocol_named("tiny_imagenet").studies}
    assert {sweep.study for sweep in sweeps.SWEEPS} | set(bounds.STUDIES.values()) <= known
