"""Verdicts on claims, from made-up numbers whose verdicts are obvious."""

import re
from pathlib import Path

import pandas as pd
import pytest
from figures_fixtures import scale_of

from paper_figures import claims, criteria
from paper_figures.criteria import CLAIMS
from paper_figures.load import MINIBATCH, TRAINING
from paper_figures.statistics import Estimate

pytestmark = pytest.mark.any_backend

PROTOCOL = Path(__file__).parents[2] / "results" / "protocol-tiny-imagenet.md"


def judged(*arguments, ratios=None, **named):
    table = claims.judge(scale_of(*arguments, **named), ratios)
    return table.set_index(table["claim"] + table["case"].map(lambda at: f" {at}" * bool(at)))


def test_every_claim_of_the_protocol_is_judged_and_no_other():
    written = re.findall(r"^\| (C\d+[abc]?) \|", PROTOCOL.read_text(), re.MULTILINE)
    assert [claim.name for claim in CLAIMS] + ["C12"] == written
    for name, threshold in (("C1", -1), ("C2", 1), ("C5a", 2), ("C5b", 2), ("C6a", 2), ("C9b", -1)):
        assert next(claim for claim in CLAIMS if claim.name == name).threshold == threshold


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


def test_a_claim_whose_arms_a_scale_does_not_have_is_not_judged():
    scale = scale_of(damaged([20] * 3))
    few = ("bn-32", "bn-noniid", "bn-shuffled", "bn-halves")
    scale.manifest["arms"] = [arm for arm in scale.manifest["arms"] if arm["arm"] in few]
    names = ["C5a", "C5b", "C6a", "C6b", "C7", "C8a", "C8b", "C8c"]
    assert claims.judge(scale)["claim"].tolist() == names


def test_a_verdict_from_part_of_the_seeds_says_so():
    table = claims.judge(
        scale_of({"brn-4": [9] * 5, "bn-4": [7] * 3}, missing=[("bn-4", 3), ("bn-4", 4)])
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
    scale = scale_of({"bn-4": [5, 5, 9, 5], "brn-4": [climbing] * 4}, diverged=[("brn-4", 3)])
    # at step 500 of 800 twice; never; and a run that diverged
    assert criteria.steps_saved(scale).tolist() == [300, 300, -100, -100]
    never = judged({"bn-4": [9, 9, 9], "brn-4": [climbing] * 3}).loc["C3b"]
    assert never[["difference", "verdict"]].tolist() == [-100, "not reproduced"]
    row = judged({"bn-4": [5, 5, 5], "brn-4": [climbing] * 3}).loc["C3b"]
    assert row[["difference", "verdict", "unit"]].tolist() == [300, "reproduced", "steps"]


def test_a_late_fall_is_from_the_third_quarter_to_the_end():
    falling = [9, 9, 9, 9, 6, 4, 2, 1]  # evaluations 5 and 6 of 8: mean 5
    scale = scale_of(
        {("bn-noniid", TRAINING): [falling] * 3, "bn-noniid": [1] * 3}, diverged=[("bn-noniid", 2)]
    )
    assert criteria.late_fall(scale, "bn-noniid").tolist() == [4, 4, 0]
    row = judged({("bn-noniid", TRAINING): [falling] * 3}).loc["C6b 16 x 2"]
    assert row[["difference", "verdict"]].tolist() == [4, "reproduced"]


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


def test_without_damage_there_is_nothing_to_give_back():
    table = judged(damaged([29] * 3))
    assert table.loc["C5b 16 x 2", "verdict"] == "not reproduced"
    for claim, difference in (("C6a", 30), ("C7", -9.5), ("C8a", -0.5)):
        row = table.loc[f"{claim} 16 x 2"]
        assert row[["difference", "verdict"]].tolist() == [difference, "not decided"]
        assert "by its own numbers, but C5b is not reproduced" in row["note"]
    assert table.loc["C8b 16 x 2", "verdict"] == "reproduced"


def test_with_damage_undecided_a_claim_can_fail_but_not_be_reproduced():
    table = judged(damaged([20, 29, 30]))
    assert table.loc["C5b 16 x 2", "verdict"] == "not decided"
    assert table.loc["C6a 16 x 2", "verdict"] == "not decided"
    assert "reproduced by its own numbers" in table.loc["C6a 16 x 2", "note"]
    assert claims.with_damage("not reproduced", "not decided") == "not reproduced"


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
    scale = scale_of({r: [late] * 2}, diverged=[("brn-32", 1)])
    assert criteria.room_below(scale, "brn-32", r[1], 5).tolist() == [2, -95]


def test_loss_spikes_are_counted_and_a_diverged_run_has_one_more_than_any():
    full, ramps = "brn-32-fast-full", "brn-32-fast"
    few, many = [0, 0, 0, 1, 0, 0, 0, 0], [1] * 8
    measured = {(full, criteria.SPIKES): [many, few, few], (ramps, criteria.SPIKES): [few] * 3}
    counted = criteria.spikes(scale_of(measured, diverged=[(full, 1)]), (full, ramps))
    assert counted[full].tolist() == [8, 9, 1]
    assert counted[ramps].tolist() == [1, 1, 1]
    measured[full, criteria.SPIKES] = [few] * 3
    assert judged(measured).loc["C11", ["difference", "verdict"]].tolist() == [0, "not reproduced"]
    measured[full, criteria.SPIKES] = [many] * 3
    assert judged(measured).loc["C11", ["difference", "verdict"]].tolist() == [7, "reproduced"]


@pytest.mark.parametrize(
    ("ratio", "q25", "q75", "expected"),
    [
        (1.01, 0.9, 1.02, "reproduced"),
        (1.01, 0.9, 1.2, "not decided"),
        (1.04, 0.9, 1.2, "not decided"),
        (1.06, 1.04, 1.2, "not reproduced"),
    ],
)
def test_speed_is_judged_by_the_benchmark_of_each_backend(ratio, q25, q75, expected):
    step = "training step, BRN / BN"
    rows = [
        ("jax", step, "64x32x32x3", ratio, q25, q75, 1.03, "-"),
        ("jax", step, "64x224x224x3", 9, 9, 9, 1.03, "-"),  # another network
        ("jax", f"{step} of Keras", "64x32x32x3", 9, 9, 9, 1.03, "-"),
    ]
    columns = ["backend", "name", "shape", "ratio", "q25", "q75", "bar", "met"]
    table = judged({"bn-32": [1]}, ratios=pd.DataFrame(rows, columns=columns))
    assert table.loc["C12 jax", "verdict"] == expected
    assert table.loc["C12 jax", "difference"] == pytest.approx(1.03 - ratio)
    assert table.loc["C12 jax", "note"].startswith("a step of 64x32x32x3")
    assert "C12, jax" in claims.show(table)["claim"].tolist()


def test_without_a_benchmark_speed_is_not_decided():
    row = judged({"bn-32": [1]}).loc["C12"]
    assert row[["verdict", "note"]].tolist() == [
        "not decided",
        "no benchmark of a training step",
    ]


def test_claims_apply_to_scales_that_have_the_controls():
    scale = scale_of({"bn-32": [1]})
    assert claims.applies(scale)
    scale.manifest["arms"] = [arm for arm in scale.manifest["arms"] if arm["arm"] != "bn-shuffled"]
    assert not claims.applies(scale)


def test_a_verdict_needs_three_seeds():
    assert claims.verdict(Estimate(5, 4, 6, 2), 0) == "not decided"
    assert claims.verdict(Estimate(5, 4, 6, 3), 0) == "reproduced"


def test_the_table_shown_and_counted():
    table = claims.judge(scale_of({"bn-32": [30, 30, 30], "bn-4": [20, 20, 20]}))
    shown = claims.show(table).set_index("claim")
    row = shown.loc["C2"]
    assert row["ours (95 % interval)"] == "10.00 (10.00 to 10.00) points"
    assert row[["n", "verdict"]].tolist() == ["3", "reproduced"]
    assert shown.loc["C9a, 16 x 2", "ours (95 % interval)"] == "-"
    assert claims.count_verdicts(table) == (
        "19 judgements: 1 reproduced, 0 not reproduced, 18 not decided"
    )
    assert claims.to_csv(table).splitlines()[2].startswith("C2,BN-4 is clearly worse")
