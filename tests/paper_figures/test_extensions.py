"""Figures beyond the paper, on made-up runs."""

import numpy as np
import pytest
from figures_fixtures import STEPS, scale_of

from paper_figures import extensions, figures
from paper_figures.claims.numbers import SPIKES
from paper_figures.load import VALIDATION

pytestmark = pytest.mark.any_backend

IID = {"sampling": "iid", "bounds": "paper", "changes": {}}
BN, BRN = {**IID, "normalization": "bn"}, {**IID, "normalization": "brn"}


def prepared(name, study, about, measured, **more):
    known = {arm: BRN for arm in ("brn-32", "brn-4", "brn-noniid", "brn-shuffled")}
    known |= {arm: BN for arm in ("bn-32", "bn-4", "bn-noniid", "bn-halves", "bn-shuffled")}
    scale = scale_of(measured, about=known | about, studies={study: list(about)}, **more)
    return extensions.EXTENSIONS[name].prepare(scale)


def draw(name, scale, arms, stacked=False):
    figure = extensions.EXTENSIONS[name].draw(scale, arms, stacked)
    assert figures.render(figure, "svg").startswith(b"<?xml")
    return figure


def labels(axes):
    return axes.get_legend_handles_labels()[1]


def sizes(**more):
    about = {
        "bn-2": {**BN, "group": 2},
        "brn-2": {**BRN, "group": 2},
        "bn-32": {**BN, "group": 32},
        "brn-32": {**BRN, "group": 32},
        "gn": {**IID, "normalization": "gn", "group": 32},
    }
    measured = {"bn-2": [10] * 3, "brn-2": [20] * 3, "bn-32": [30, 30, 30, 99], "gn": [25] * 3}
    return prepared("group_size", "group-size", about, measured, missing=[("brn-32", 0)], **more)


def test_a_sweep_shows_the_end_against_the_setting_over_the_studys_seeds():
    axes = draw("group_size", *sizes()).axes[0]
    brn, bn, gn = (container for container in [*axes.containers, axes.lines[-1]])
    assert brn[0].get_xydata().tolist() == [[2, 20]]
    assert bn[0].get_xydata().tolist() == [[2, 10], [32, 30]]  # seed 3 is not the study's
    assert set(gn.get_ydata()) == {25}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "32"]
    assert labels(axes) == ["gn", "BRN", "BN"]


def test_words_of_a_sweep_give_pairs_n_and_what_is_missing():
    scale, arms = sizes()
    assert extensions.finding("group_size", scale, arms) == (
        "Group size, made-up: groups of 2: brn-2 ends 10.0 points above bn-2 (n = 3, 95 % interval "
        "10.0 to 10.0); groups of 32: no seed has ended both for brn-32 and bn-32; gn ends at 25.0 "
        "(25.0 to 25.0) %."
    )
    caption = extensions.caption("group_size", scale, arms)
    assert "n = 3 seeds, 95 % t intervals." in caption
    assert "Not finished, so not in it: brn-32 seed 0." in caption


def test_a_diverged_run_counts_with_chance_level_in_a_sweep():
    scale, arms = sizes(diverged=[("brn-2", 0), ("brn-2", 1), ("brn-2", 2)])
    axes = draw("group_size", scale, arms).axes[0]
    assert axes.containers[0][0].get_ydata().tolist() == [0.5]
    assert "Diverged: brn-2 seeds 0, 1, 2" in extensions.caption("group_size", scale, arms)


def test_structure_shows_controls_and_iid_arms_beside_it():
    adjacent = {"sampling": "adjacent"}
    eight = {"changes": {"images_per_label": 8}}
    about = {
        "bn-noniid": BN | adjacent,
        "brn-noniid": BRN | adjacent,
        "bn-noniid-4x8": BN | adjacent | eight,
        "brn-noniid-4x8": BRN | adjacent | eight,
    }
    control = {"bn-shuffled-4x8": BN | {"sampling": "shuffled"} | eight}
    measured = {arm: [10 + i] * 3 for i, arm in enumerate([*about, *control, "bn-32"])}
    scale = scale_of(
        measured, about=about | control | {"bn-32": BN, "brn-32": BRN}
        | {arm: {**IID, "normalization": "bn"} for arm in ("bn-4", "bn-halves", "bn-shuffled")}
        | {arm: {**IID, "normalization": "brn"} for arm in ("brn-4", "brn-shuffled")},
        studies={"degree": list(about)},
    )  # fmt: skip
    scale, arms = extensions.EXTENSIONS["structure"].prepare(scale)
    axes = draw("structure", scale, arms, stacked=True).axes[0]
    points = {c.get_label(): c[0].get_xydata().tolist() for c in axes.containers}
    assert points == {
        "BRN": [[2, 11], [8, 13]],
        "BN": [[2, 10], [8, 12]],
        "BN, the same images shuffled over the step": [[8, 14]],
    }
    assert "bn-32" in labels(axes)
    assert "brn-32" not in labels(axes)  # has no run
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16 x 2", "4 x 8"]


def test_alpha_is_the_arms_own_or_the_protocols():
    about = {"bn-4": BN, "bn-4-alpha-0.1": BN | {"changes": {"alpha": 0.1}}}
    scale, arms = prepared("alpha", "alpha", about, {"bn-4": [1], "bn-4-alpha-0.1": [2]})
    scale.manifest["protocol"]["alpha"] = 0.01
    axes = draw("alpha", scale, arms).axes[0]
    assert axes.containers[0][0].get_xydata().tolist() == [[0.01, 1], [0.1, 2]]


def test_bounds_are_curves_of_accuracy_and_loss():
    arms = {"brn-4": BRN, "brn-4-full": BRN | {"bounds": "3/5"}}
    measured = {arm: [30] * 3 for arm in arms} | {(arm, "training_loss"): [4] * 3 for arm in arms}
    scale, arms = prepared("bounds", "bounds", arms, measured)
    left, right = draw("bounds", scale, arms).axes
    assert labels(left) == ["brn-4", "brn-4-full"]
    assert set(right.lines[0].get_ydata()) == {4}
    assert len({line.get_color() for line in left.lines}) == 2
    assert "brn-4-full ends 0.0 points above brn-4" in extensions.finding("bounds", scale, arms)


def test_spikes_are_counted_and_the_highest_loss_of_a_step_is_a_line_a_run():
    about = {"brn-32-fast": BRN, "brn-32-fast-full": BRN}
    highest = [[9] + [5] * 7, [40] + [4] * 7, [6] * 8]
    measured = {arm: [30] * 3 for arm in about}
    measured |= {(arm, SPIKES): [[0] * 7 + [1], [1] * 8, [0] * 8] for arm in about}
    measured |= {(arm, extensions.HIGHEST_LOSS): highest for arm in about}
    scale, arms = prepared("high_rate", "high-rate", about, measured)
    right = draw("high_rate", scale, arms, stacked=True).axes[1]
    assert [line.get_ydata().tolist() for line in right.lines] == highest * 2
    assert right.get_yscale() == "log"
    np.testing.assert_allclose(right.lines[0].get_xdata(), [step / 800 for step in STEPS])
    finding = extensions.finding("high_rate", scale, arms)
    assert "brn-32-fast has 1, 8, 0 loss spikes (n = 3)" in finding
    assert "no step has a loss above 9.0, 40.0, 6.0" in finding


def test_clipping_shows_arms_overall_and_layers_of_one():
    falling = [80, 40, 20, 10, 8, 6, 4, 2]
    measured = {"brn-32": [30] * 2, "brn-4": [30] * 2, "bn-32": [30] * 2, "brn-shuffled": [30] * 2}
    for name in "rd":
        measured["brn-32", f"{name}_clipped_percent"] = [falling] * 2
        measured["brn-32", f"{name}_clipped_percent_layer_01"] = [falling, [0] * 8]
        measured["brn-32", f"{name}_clipped_percent_layer_02"] = [falling] * 2
    about = {arm: BRN for arm in ("brn-32", "brn-4")} | {"bn-32": BN}
    about["brn-shuffled"] = BRN | {"sampling": "shuffled"}
    scale, arms = prepared("clipping", "paper", about, measured)
    assert arms == ["brn-32", "brn-4"]
    r, _, r_layers, *_ = draw("clipping", scale, arms).axes
    assert r.lines[0].get_ydata().tolist() == falling
    mesh = r_layers.collections[0].get_array()
    assert mesh.shape == (2, 8)
    assert mesh[:, 0].tolist() == [40, 80]  # the mean over the seeds
    assert extensions.finding("clipping", scale, arms) == (
        "Clipping, made-up: at the end, brn-32 clips 2.00 % of r and 2.00 % of d (n = 2)."
    )


def test_a_study_without_runs_is_left_out_and_a_scale_without_the_study_has_no_figure():
    about = {"brn-4": BRN}
    scale, arms = prepared("bounds", "bounds", about, {"bn-4": [1]}, missing=[("brn-4", 0)])
    assert extensions.left_out("bounds", scale, arms) == (
        f"Bounds is left out: no run with {VALIDATION} has ended."
    )
    assert extensions.EXTENSIONS["alpha"].prepare(scale_of({"bn-4": [1]})) is None


@pytest.mark.parametrize("name", extensions.EXTENSIONS)
def test_every_extension_has_a_study_of_the_grid(name):
    from experiments.grid.runs import protocol_named

    known = {study.name for study in protocol_named("tiny_imagenet").studies}
    assert extensions.EXTENSIONS[name].study in known
