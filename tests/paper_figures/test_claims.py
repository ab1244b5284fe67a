"""Verdicts on claims, from made-up numbers whose verdicts are obvious."""

import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from figures_fixtures import protocol_of

from paper_figures import claims
from paper_figures.claims import numbers, stage, verdicts
from paper_figures.claims.criteria import CHECKS, DEPTH, END, STAGE
from paper_figures.load import MINIBATCH, TRAINING, VALIDATION, load_paper
from paper_figures.statistics import Estimate

pytestmark = pytest.mark.any_backend

RESULTS = Path(__file__).parents[2] / "results"
LATE = {"workers": 400}
"""102 epochs, and 12.8 at the first evaluation."""


def judged(measured, speed=None, part="end", paper=None, **named):
    table = claims.judge(protocol_of(measured, **named), paper, speed)
    table = table[table["part"] == part]
    return table.set_index(table["claim"] + table["case"].map(lambda at: f" {at}" * bool(at)))


@pytest.mark.parametrize(
    ("page", "name", "judged_here"),
    [
        ("protocol-tiny-imagenet.md", r"C\d+[abc]?", END),
        ("criteria.md", r"E\d[ab]?", [claim for claim in STAGE if claim.threshold is not None]),
        ("criteria.md", r"D\d", [claim for claim in DEPTH if claim.threshold is not None]),
        ("criteria.md", r"M\d", CHECKS),
    ],
)
def test_every_claim_of_a_page_is_judged_and_no_other(page, name, judged_here):
    written = re.findall(rf"^\| ({name}) \|", (RESULTS / page).read_text(), re.MULTILINE)
    assert list(dict.fromkeys(claim.name for claim in judged_here)) == written


def test_thresholds_are_those_of_the_pages():
    of = {claim.name: (claim.threshold, claim.below) for claim in (*END, *STAGE, *DEPTH)}
    limits = {"C1": -1, "C2": 1, "C5a": 2, "C5b": 2, "C6a": 2, "C9a": -1, "C9b": -1, "D3": 2}
    others = {name: (0, None) for name in of}
    assert of == {
        **others,
        **{name: (limit, None) for name, limit in limits.items()},
        **{name: (None, None) for name in ("D0", "E0")},
        "E2": (-1, 2),
    }


@pytest.mark.parametrize(
    ("bn", "expected"),
    [
        ([20, 21, 22], "reproduced"),  # 0 points each time, above -1
        ([22, 23, 24], "not reproduced"),  # -2 points each time
        ([20, 21, 26], "not decided"),  # 0, 0, -4
        ([21, 22, 23], "not reproduced"),  # -1 each time: on the threshold, not above it
        ([20, 21], "not decided"),  # two seeds
    ],
)
def test_the_three_verdicts(bn, expected):
    row = judged({"brn-32": [20, 21, 22], "bn-32": bn}).loc["C1"]
    assert row["verdict"] == expected
    assert row["n"] == len(bn)


def test_differences_are_paired_by_seed_and_have_an_interval():
    row = judged({"bn-32": [30, 40, 50], "bn-4": [27, 35, 43]}).loc["C2"]  # 3, 5, 7
    assert row["difference"] == 5
    assert row["high"] - 5 == pytest.approx(4.30265 * 2 / 3**0.5, rel=1e-5)
    assert row["verdict"] == "not decided"  # down to 0.03, threshold 1


def test_an_arm_that_is_missing_leaves_the_claim_undecided():
    missing = [("bn-4", 0), ("bn-4", 1), ("bn-4", 2)]
    table = judged({"brn-4": [20, 20, 20], "brn-32": [30, 30, 30]}, missing=missing)
    row = table.loc["C3a"]
    assert (row["verdict"], row["n"], row["expected"]) == ("not decided", 0, 3)
    assert row["note"] == "missing: bn-4 seeds 0, 1, 2"
    assert table.loc["C4", ["verdict", "difference"]].tolist() == ["reproduced", 10]


def test_a_claim_whose_arms_a_protocol_does_not_have_is_not_judged():
    protocol = protocol_of(damaged([20] * 3))
    few = ("bn-32", "bn-noniid", "bn-shuffled", "bn-halves")
    protocol.manifest["arms"] = [arm for arm in protocol.manifest["arms"] if arm["arm"] in few]
    table = claims.judge(protocol).query("verdict != ''")
    names = ["C5a", "C5b", "C6a", "C6b", "C7", "C8a", "C8b", "C8c", "E1", "E2"]
    assert table["claim"].tolist() == names


def test_a_verdict_from_part_of_the_seeds_says_so():
    table = claims.judge(
        protocol_of({"brn-4": [9] * 5, "bn-4": [7] * 3}, missing=[("bn-4", 3), ("bn-4", 4)])
    )
    row = table[table["claim"] == "C3a"]
    assert row["verdict"].item() == "reproduced"
    shown = claims.show(row).iloc[0]
    assert shown["n"] == "3 of 5"
    assert shown["note"] == "missing: bn-4 seeds 3, 4"


def test_a_diverged_run_counts_with_chance_level():
    row = judged({"bn-32": [30, 30, 30], "brn-32": [30, 30, 30]}, diverged=[("brn-32", 1)]).loc[
        "C1"
    ]
    assert row["difference"] == pytest.approx(-29.5 / 3)
    assert row["n"] == 3
    assert row["note"] == "brn-32: 1 diverged"


def test_steps_saved_are_counted_to_the_first_evaluation_at_the_other_arms_end():
    climbing = [1, 2, 3, 4, 5, 6, 7, 8]
    protocol = protocol_of({"bn-4": [5, 5, 9, 5], "brn-4": [climbing] * 4}, diverged=[("brn-4", 3)])
    # at step 500 of 800 twice; never; and a run that diverged
    assert numbers.steps_saved(protocol).tolist() == [300, 300, -100, -100]
    never = judged({"bn-4": [9, 9, 9], "brn-4": [climbing] * 3}).loc["C3b"]
    assert never[["difference", "verdict"]].tolist() == [-100, "not reproduced"]
    row = judged({"bn-4": [5, 5, 5], "brn-4": [climbing] * 3}).loc["C3b"]
    assert row[["difference", "verdict", "unit"]].tolist() == [300, "reproduced", "steps"]


def test_a_late_fall_is_from_the_third_quarter_to_the_end():
    falling = [9, 9, 9, 9, 6, 4, 2, 1]  # evaluations 5 and 6 of 8: mean 5
    protocol = protocol_of(
        {("bn-noniid", TRAINING): [falling] * 3, "bn-noniid": [1] * 3}, diverged=[("bn-noniid", 2)]
    )
    assert numbers.late_fall(protocol, "bn-noniid").tolist() == [4, 4, 0]
    row = judged({("bn-noniid", TRAINING): [falling] * 3}, **LATE).loc["C6b 16 x 2"]
    assert row[["difference", "verdict"]].tolist() == [4, "reproduced"]


def test_what_is_late_in_the_paper_is_not_testable_early():
    measured = {("bn-noniid", TRAINING): [[9] * 7 + [5]] * 3}
    for workers, expected in ((8, "not testable here"), (239, "reproduced")):  # 2 and 61.2 epochs
        row = judged(measured, workers=workers).loc["C6b 16 x 2"]
        assert row[["difference", "verdict"]].tolist() == [4, expected]
        assert ("these runs end after 2; by its own numbers reproduced" in row["note"]) == (
            workers == 8
        )


def damaged(end, structure=""):
    """BN on structured minibatches ends `end` points below the shuffled images' 30."""
    at = structure
    return {
        "bn-32": [33] * 3,
        f"bn-shuffled{at}": [30] * 3,
        f"bn-noniid{at}": end,
        f"bn-halves{at}": [29] * 3,
        (f"bn-noniid{at}", MINIBATCH): [20] * 3,
        (f"bn-noniid{at}", TRAINING): [10] * 3,
        (f"bn-shuffled{at}", TRAINING): [40] * 3,
    }


def test_what_is_given_back_is_held_against_the_middle():
    table = judged(damaged([20] * 3))
    assert table.loc["C5b 16 x 2", ["difference", "verdict"]].tolist() == [10, "reproduced"]
    assert table.loc["C6a 16 x 2", ["difference", "verdict"]].tolist() == [30, "reproduced"]
    assert table.loc["C7 16 x 2", ["difference", "verdict"]].tolist() == [-5, "not reproduced"]
    assert table.loc["C8a 16 x 2", ["difference", "verdict"]].tolist() == [4, "reproduced"]
    assert table.loc["C8b 16 x 2", ["difference", "verdict"]].tolist() == [4, "reproduced"]


def test_without_damage_remedies_are_not_testable():
    table = judged(damaged([29] * 3))
    assert table.loc["C5b 16 x 2", "verdict"] == "not reproduced"
    for claim, difference in (("C6a", 30), ("C7", -9.5), ("C8a", -0.5), ("C8b", 4), ("C8c", 1)):
        row = table.loc[f"{claim} 16 x 2"]
        assert row[["difference", "verdict"]].tolist() == [difference, "not testable here"]
        assert "there is no damage to give back; by its own numbers" in row["note"]
    assert set(table.loc[["C9a 16 x 2", "C9b 16 x 2", "C9c 16 x 2"], "verdict"]) == {
        "not testable here"
    }


def test_with_damage_undecided_a_remedy_can_fail_but_not_be_reproduced():
    table = judged(damaged([20, 29, 30]))
    assert table.loc["C5b 16 x 2", "verdict"] == "not decided"
    assert table.loc["C6a 16 x 2", "verdict"] == "not decided"
    assert "reproduced by its own numbers" in table.loc["C6a 16 x 2", "note"]
    failing = judged({**damaged([20, 29, 30]), ("bn-shuffled", TRAINING): [10] * 3})
    assert failing.loc["C6a 16 x 2", "verdict"] == "not reproduced"


def test_halves_that_hold_several_images_of_a_label_are_no_test_of_halves():
    measured = damaged([20] * 3, "-4x8")
    table = judged(measured, structures=("", "-4x8"))
    for claim in ("C8a", "C8b", "C8c"):
        assert table.loc[f"{claim} 4 x 8", "verdict"] == "not testable here"
    assert table.loc["C6a 4 x 8", "verdict"] == "reproduced"


def test_structures_are_judged_apart():
    table = judged({**damaged([29] * 3), **damaged([20] * 3, "-4x8")}, structures=("", "-4x8"))
    assert table.loc["C5b 16 x 2", "verdict"] == "not reproduced"
    assert table.loc["C5b 4 x 8", "verdict"] == "reproduced"
    assert table.loc["C6a 4 x 8", "verdict"] == "reproduced"
    assert "bn-noniid-4x8" in table.loc["C5a 4 x 8", "criterion"]
    assert table["claim"].tolist().count("C8b") == 2
    assert table["claim"].tolist().count("C1") == 1


def test_clipped_fractions_at_the_end_and_of_a_diverged_run():
    r, d = ("brn-32", "r_clipped_percent"), ("brn-32", "d_clipped_percent")
    late = [50, 40, 30, 20, 10, 5, 4, 3]
    table = judged({r: [late] * 3, d: [0.25] * 3})
    assert table.loc["C10a", ["difference", "verdict"]].tolist() == [2, "reproduced"]
    assert table.loc["C10b", "difference"] == pytest.approx(-0.15)
    assert table.loc["C10b", "verdict"] == "not reproduced"
    assert table.loc["C10a", "note"] == "clipped: 3.000 [3.000, 3.000] % of r"
    protocol = protocol_of({r: [late] * 2}, diverged=[("brn-32", 1)])
    assert numbers.clipped(protocol, "brn-32", "r").tolist() == [3, 100]


def test_loss_spikes_are_counted_and_a_diverged_run_has_one_more_than_any():
    full, ramps = "brn-32-fast-full", "brn-32-fast"
    few, many = [0, 0, 0, 1, 0, 0, 0, 0], [1] * 8
    measured = {(full, numbers.SPIKES): [many, few, few], (ramps, numbers.SPIKES): [few] * 3}
    counted = numbers.spikes(protocol_of(measured, diverged=[(full, 1)]), (full, ramps))
    assert counted[full].tolist() == [8, 9, 1]
    assert counted[ramps].tolist() == [1, 1, 1]
    measured[full, numbers.SPIKES] = [few] * 3
    assert judged(measured).loc["C11", ["difference", "verdict"]].tolist() == [0, "not reproduced"]
    measured[full, numbers.SPIKES] = [many] * 3
    assert judged(measured).loc["C11", ["difference", "verdict"]].tolist() == [7, "reproduced"]


@pytest.mark.parametrize(
    ("losses", "spikes", "expected"),
    [
        ((20, 30, 40), 0, "not decided"),  # up to the first evaluation, and no spike counted there
        ((20, 30, 5.4), 0, "not reproduced"),  # in one seed no higher by half a unit
        ((20, 30, 40), 1, "not reproduced"),  # the jump may be the spike that was counted
    ],
)
def test_a_jump_of_the_loss_before_spikes_can_be_counted_leaves_c11_undecided(
    losses, spikes, expected
):
    arms = ("brn-32-fast-full", "brn-32-fast")
    measured = {(arm, numbers.SPIKES): [[spikes] + [0] * 7] * 3 for arm in arms}
    measured[arms[0], numbers.LARGEST_LOSS] = [[loss] + [4] * 7 for loss in losses]
    measured[arms[1], numbers.LARGEST_LOSS] = [[5] + [4] * 7] * 3
    row = judged(measured).loc["C11"]
    assert row["verdict"] == expected
    assert ("post hoc: 20.0, 30.0, 40.0 against 5.0, 5.0, 5.0" in row["note"]) == (
        expected == "not decided"
    )


def benchmark(*ratios, rounds=16):
    """Benchmarks of a training step: backend, median, quartiles; and steps of other kinds."""
    step = "training step, BRN / BN"
    rows = [(backend, step, "64x32x32x3", *numbers) for backend, *numbers in ratios]
    rows += [
        ("jax", step, "64x224x224x3", 9, 9, 9),  # another network
        ("jax", f"{step} of Keras", "64x32x32x3", 9, 9, 9),
    ]
    columns = ["backend", "name", "shape", "ratio", "q25", "q75"]
    times = pd.DataFrame(
        [(backend, "64x32x32x3", rounds) for backend, *_ in ratios],
        columns=["backend", "shape", "rounds"],
    )
    return SimpleNamespace(ratios=pd.DataFrame(rows, columns=columns), times=times)


def test_speed_is_judged_by_the_interval_of_the_median_of_each_backend():
    # half of it: t(15) 2.1314 times 1.2533 / 1.349 times the quartiles' distance / 4
    half = 2.13145 * 1.253314 / 1.348980 * 0.08 / 4
    measured = benchmark(
        ("jax", 0.98, 0.94, 1.02), ("tensorflow", 1.02, 0.98, 1.06), ("torch", 1.2, 1.16, 1.24)
    )
    table = judged({"bn-32": [1]}, measured)
    assert table.loc["C12 jax", "difference"] == pytest.approx(0.05)
    assert table.loc["C12 jax", "low"] == pytest.approx(0.05 - half, rel=1e-5)
    assert table.loc["C12 jax", ["n", "expected"]].tolist() == [16, 16]
    assert table.loc["C12 jax", "note"] == (
        "a step of 64x32x32x3: BRN / BN 0.980 [0.940, 1.020] (quartiles)"
    )
    verdicts_of = table.loc[["C12 jax", "C12 tensorflow", "C12 torch"], "verdict"]
    assert verdicts_of.tolist() == ["reproduced", "not decided", "not reproduced"]
    assert "C12, jax" in claims.show(table)["claim"].tolist()


def test_without_a_benchmark_speed_is_not_judged():
    assert not (judged({"bn-32": [1]})["claim"] == "C12").any()
    elsewhere = judged({"bn-32": [1]}, benchmark(("jax", 1, 1, 1)), source="omniglot")
    assert not (elsewhere["claim"] == "C12").any()  # a step on other images


def test_claims_apply_to_protocols_that_have_the_controls():
    protocol = protocol_of({"bn-32": [1]})
    assert claims.applies(protocol)
    protocol.manifest["arms"] = [
        arm for arm in protocol.manifest["arms"] if arm["arm"] != "bn-shuffled"
    ]
    assert not claims.applies(protocol)
    assert claims.applies(protocol_of(deep(4, 3, 2, 1)))


def test_a_verdict_needs_three_seeds():
    assert verdicts.verdict(Estimate(5, 4, 6, 2), 0) == "not decided"
    assert verdicts.verdict(Estimate(5, 4, 6, 3), 0) == "reproduced"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.9, 1.9, "reproduced"),
        (-1.1, 1, "not decided"),
        (1, 2.1, "not decided"),
        (-2, -1.1, "not reproduced"),
        (2.1, 3, "not reproduced"),
    ],
)
def test_a_claim_between_two_limits(low, high, expected):
    estimate = Estimate((low + high) / 2, low, high, 5)
    assert verdicts.verdict(estimate, -1, 2) == expected
    assert (verdicts.p_value(estimate, -1, 2) <= 0.025) == (expected != "not decided")


def figure_3(minibatch, noniid, halves, brn, iid, at=""):
    """The curves of figure 3, each the same at all evaluations and seeds, or a list of eight."""
    ends = {
        (f"bn-noniid{at}", MINIBATCH): minibatch,
        f"bn-noniid{at}": noniid,
        f"bn-halves{at}": halves,
        f"brn-noniid{at}": brn,
        f"brn-shuffled{at}": iid,
        f"bn-shuffled{at}": iid,
        "brn-32": iid,
        "bn-32": iid,
    }
    return {arm: [value] * 3 for arm, value in ends.items()}


def test_the_papers_order_at_its_stage():
    table = judged(figure_3(8, 10, 11, 12, 18), part="stage")
    found = table.loc[["E1 16 x 2", "E2 16 x 2", "E3 16 x 2", "E4a 16 x 2", "E4b 16 x 2"]]
    assert found["difference"].tolist() == [2, 1, 2, 6, 6]
    assert set(found["verdict"]) == {"reproduced"}
    assert (table.loc["E0 16 x 2", "verdict"] == "").all()
    swapped = judged(figure_3(10, 8, 12, 8, 8), part="stage").loc[found.index]
    assert swapped["difference"].tolist() == [-2, 4, 0, 0, 0]
    assert set(swapped["verdict"]) == {"not reproduced"}


def test_a_longer_run_is_judged_at_its_last_evaluation_within_the_stage_and_shown_at_its_end():
    early, late = [1, 9, 9, 9, 9, 9, 9, 1], [1, 5, 9, 9, 9, 9, 9, 9]
    table = judged(figure_3(late, early, early, early, early), part="stage", **LATE)
    first, end = table.loc["E1 16 x 2"].to_dict("records")
    assert first["epochs"] == 25.6  # at step 200 of 800; 38.4 would be too late
    assert (first["difference"], first["verdict"]) == (4, "reproduced")
    assert (end["epochs"], end["difference"], end["verdict"]) == (102.4, -8, "")
    names = claims.show(table.reset_index())["claim"].tolist()
    assert names.count("E1, 16 x 2") == names.count("E1, 16 x 2, 102 epochs") == 1


def test_a_run_that_diverges_after_the_stage_counts_as_measured_there():
    protocol = protocol_of({"bn-32": [20, 20]}, diverged=[("bn-32", 1)], **LATE)
    assert numbers.finals(protocol, "bn-32").tolist() == [20, 0.5]  # chance: 100 / 200 classes
    assert numbers.finals(stage.early(protocol), "bn-32").tolist() == [20, 20]
    sooner = protocol_of({"bn-32": [20, 20]}, diverged=[("bn-32", 1)], workers=200)
    assert stage.early(sooner).total_steps == 500
    assert numbers.finals(stage.early(sooner), "bn-32").tolist() == [20, 0.5]
    assert stage.early(protocol_of({"bn-32": [20]}, workers=2000)) is None


def test_the_papers_values_are_those_after_as_many_epochs():
    paper = load_paper(RESULTS)
    table = judged(figure_3(8, 10, 11, 12, 18), part="stage", paper=paper, workers=78.125)
    assert table.iloc[0]["epochs"] == 20  # 16,000 of the paper's steps
    of_paper = table.set_index("criterion")["paper"]
    curve = paper.curve("bn-noniid")
    around = (curve.loc[curve["step"] <= 16_000, "accuracy_percent"].iloc[-1],
              curve.loc[curve["step"] > 16_000, "accuracy_percent"].iloc[0])  # fmt: skip
    assert min(around) <= of_paper["bn-noniid"] <= max(around)
    minibatch = of_paper["bn-noniid with minibatch statistics"]
    assert table.loc["E1 16 x 2", "paper"] == pytest.approx(of_paper["bn-noniid"] - minibatch)
    assert table.loc["E4a 16 x 2", "paper"] == table.loc["E4b 16 x 2", "paper"]


def test_a_value_between_two_points_of_the_paper_is_on_the_line_between_them():
    curves = pd.DataFrame(
        [("bn-32", VALIDATION, 0, 10.0), ("bn-32", VALIDATION, 8000, 30.0)],
        columns=["arm", "measure", "step", "accuracy_percent"],
    )
    runs = stage.paper_runs(SimpleNamespace(curves=curves), protocol_of({"bn-32": [1]}, **LATE))
    # 12.8 epochs are past the curve's end at 10
    assert len(runs.values("bn-32")) == 0
    runs = stage.paper_runs(
        SimpleNamespace(curves=curves), protocol_of({"bn-32": [1]}, workers=125)
    )
    # 4 and 8 epochs, 3,200 and 6,400 steps
    assert runs.values("bn-32")["value"].tolist() == pytest.approx([18, 26])
    assert runs.values("bn-shuffled")["value"].tolist() == pytest.approx([18, 26])


def deep(bn_4, bn_16, bn_32, brn_32):
    """Damage at some depths: how far the shuffled control ends above 10."""
    ends = {}
    for kind, depth, damage in (("bn", 4, bn_4), ("bn", 16, bn_16), ("bn", 32, bn_32),
                                ("brn", 32, brn_32)):  # fmt: skip
        ends[f"{kind}-noniid-depth{depth}"] = [10, 11, 12]
        ends[f"{kind}-shuffled-depth{depth}"] = [10 + damage, 11 + damage, 12 + damage]
    return ends


def test_damage_over_depth():
    table = judged(deep(1, 3, 7, 2), part="depth")
    assert table.loc["D0", "difference"].tolist() == [1, 3, 7, 2]
    assert table.loc[["D1", "D2", "D3"], "difference"].tolist() == [6, 5, 3]
    assert table["verdict"].tolist() == [""] * 4 + ["reproduced"] * 3
    table = judged(deep(3, 2, 3, 4), part="depth").loc[["D1", "D2", "D3"]]
    assert table["difference"].tolist() == [0, -1, 2]
    assert set(table["verdict"]) == {"not reproduced"}


def test_checks_have_values_and_no_verdict():
    measured = {
        ("bn-32", numbers.IN_MINIBATCHES): [90, 92, 94],
        "bn-32": [30] * 3,
        "bn-shuffled": [28] * 3,
        ("brn-noniid", "r_clipped_percent"): [3] * 3,
        ("brn-noniid", "d_clipped_percent"): [0.5] * 3,
    }
    table = judged(measured, part="check")
    assert table.loc["M1", ["difference", "n"]].tolist() == [92, 3]
    assert table.loc["M2 16 x 2", "difference"] == 2
    assert table.loc["M3 16 x 2", "difference"].tolist()[:2] == [3, 0.5]
    assert set(table["verdict"]) == {""}


def test_holms_correction_takes_verdicts_that_one_test_of_many_may_have_by_chance():
    # 0.2, 0, 0: mean and standard error are 1/15, so t = 16 against -1, and with two degrees of
    # freedom p = (1 - 16 / sqrt(2 + 16^2)) / 2; of 23 judgements one such may be chance
    few = claims.judge(protocol_of({"bn-32": [31, 32, 33.1], "brn-32": [31.2, 32, 33.1]}))
    row = few.set_index("claim").loc["C1"]
    assert row["p"] == pytest.approx((1 - 16 / 258**0.5) / 2)
    assert (few["verdict"] != "").sum() == 23
    assert row[["verdict", "holm"]].tolist() == ["reproduced", "not decided"]


def test_what_came_after_the_runs_is_a_family_of_its_own():
    # E2: 1.0, 1.0, 1.3
    protocol = protocol_of({**figure_3(8, 10, 11, 12, 18), "bn-halves": [11, 11, 11.3]})
    kept = {}
    for name in ("tiny_imagenet", "omniglot"):
        protocol.manifest["scale"], protocol.manifest["missing"] = name, []
        table = claims.judge(protocol)
        kept[name] = table.set_index("claim").loc["E2", ["verdict", "holm", "note"]].tolist()
    assert kept["tiny_imagenet"] == ["reproduced", "reproduced", "post hoc"]
    assert kept["omniglot"] == ["reproduced", "not decided", ""]


def test_damage_is_set_beside_that_of_fewer_steps():
    long, short = (protocol_of({"bn-shuffled": [30, 31, 32], "bn-noniid": ends})
                   for ends in ([27, 28, 29], [29, 30, 31]))  # fmt: skip
    table = claims.judge(long, shorter=short).set_index("claim")
    assert table.loc["C5b", "note"] == (
        "at 800 steps 1.00 [1.00, 1.00] points (n = 3), 800 - 800 steps 2.00 [2.00, 2.00] "
        "(paired, n = 3)"
    )


def test_the_table_shown_and_counted():
    table = claims.judge(protocol_of({"bn-32": [30, 30, 30], "bn-4": [20, 20, 20]}))
    shown = claims.show(table).set_index("claim")
    row = shown.loc["C2"]
    assert row["ours [95 % interval]"] == "10.00 [10.00, 10.00] points"
    assert row[["n", "verdict"]].tolist() == ["3", "reproduced"]
    assert shown.loc["C9a, 16 x 2", "ours [95 % interval]"] == "-"
    at_end = table[table["part"] == "end"]
    assert claims.count_verdicts(at_end) == (
        "18 judgements: 1 reproduced, 0 not reproduced, 16 not decided, 1 not testable here; 1 of "
        "the 1 decided ones stay so by Holm's correction."
    )
    assert claims.count_verdicts(table[table["part"] == "check"]) == ""


def test_there_is_a_part_for_each_stage_and_it_says_what_is_post_hoc():
    protocol = protocol_of({"bn-32": [30] * 3})
    parts = claims.parts(claims.judge(protocol), protocol)
    assert {heading: len(rows[rows["verdict"] != ""]) for heading, rows in parts.items()} == {
        "At the end, after 2 epochs.": 18,
        "At the paper's stage: its first 36 epochs, here after 2.": 5,
        "Does the experiment do what it is meant to? After 2 epochs, without a verdict.": 0,
    }
    protocol.manifest["scale"] = "tiny_imagenet"
    headings = " ".join(claims.parts(claims.judge(protocol), protocol))
    assert "Post hoc: these criteria were written after these runs." in headings
