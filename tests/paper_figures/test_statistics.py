"""Estimates over seeds, with answers from mental arithmetic."""

import math

import pandas as pd
import pytest

from paper_figures.statistics import (
    LEVEL,
    Estimate,
    geometric_interval,
    half_width,
    holm,
    mean_curve,
    mean_interval,
    median_interval,
    p_above,
    paired_difference,
    run_summaries,
    steps_to_reach,
)

pytestmark = pytest.mark.any_backend

T_1, T_2 = 12.7062, 4.30265  # the 97.5 % points of Student's t with 1 and 2 degrees of freedom


def curves(*runs):
    """Rows of runs given as (status, {step: value}); the seed is the run's position."""
    return pd.DataFrame(
        [
            (seed, status, step, float(value))
            for seed, (status, points) in enumerate(runs)
            for step, value in points.items()
        ],
        columns=["seed", "status", "step", "value"],
    )


def test_half_width_is_students_t_over_root_n():
    assert half_width(3.0, 9) == pytest.approx(2.306004)  # t(8) times 3 / 3
    assert math.isnan(half_width(1.0, 1))
    assert half_width(pd.Series([1.0, 3.0]), pd.Series([2, 3])).tolist() == pytest.approx(
        [T_1 / math.sqrt(2), T_2 * math.sqrt(3)], rel=1e-5
    )


def test_mean_interval_of_two_values_one_apart():
    # s = sqrt(1 / 2), so s / sqrt(n) = 1 / 2
    estimate = mean_interval([1.0, 2.0])
    assert (estimate.mean, estimate.n) == (1.5, 2)
    assert estimate.low == pytest.approx(1.5 - T_1 / 2, rel=1e-5)
    assert estimate.high == pytest.approx(1.5 + T_1 / 2, rel=1e-5)


def test_geometric_interval_is_that_of_the_logarithms():
    found = geometric_interval([1.0, math.e])  # logarithms 0 and 1
    assert found.mean == pytest.approx(math.exp(0.5))
    assert math.log(found.high) == pytest.approx(0.5 + T_1 / 2, rel=1e-4)
    assert found.low * found.high == pytest.approx(math.e)
    assert found.n == 2


def test_mean_interval_does_not_exist_for_one_seed_or_none():
    one = mean_interval([7.0])
    assert (one.mean, one.n) == (7.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = mean_interval([])
    assert none.n == 0
    assert math.isnan(none.mean)


def test_mean_interval_of_equal_values_has_no_width():
    assert mean_interval([5.0, 5.0, 5.0]) == Estimate(5.0, 5.0, 5.0, 3)


def test_mean_curve_averages_step_by_step():
    values = curves(("finished", {20: 3, 10: 1}), ("finished", {10: 2, 20: 5}))
    curve = mean_curve(values)
    assert curve["step"].tolist() == [10, 20]
    assert curve["mean"].tolist() == [1.5, 4.0]
    assert curve["n"].tolist() == [2, 2]
    half = (curve["high"] - curve["low"]) / 2
    assert half.tolist() == pytest.approx([T_1 / 2, T_1], rel=1e-5)


def test_mean_curve_goes_on_with_the_runs_that_did_not_diverge():
    values = curves(("finished", {10: 1, 20: 3}), ("diverged", {10: 3, 13: 0}))
    curve = mean_curve(values)
    assert curve["step"].tolist() == [10, 20]  # not 13, where only the diverged run was measured
    assert curve["mean"].tolist() == [2.0, 3.0]
    assert curve["n"].tolist() == [2, 1]
    assert curve["low"].isna().tolist() == [False, True]


def test_mean_curve_of_diverged_runs_alone_ends_where_they_end():
    curve = mean_curve(curves(("diverged", {10: 1, 20: 3}), ("diverged", {10: 2})))
    assert curve["mean"].tolist() == [1.5, 3.0]


def test_run_summaries_take_the_highest_and_the_last_value_of_each_run():
    values = curves(("finished", {30: 4, 10: 5, 20: 9}), ("diverged", {10: 2, 20: 2}))
    summaries = run_summaries(values)
    assert summaries.index.tolist() == [0, 1]
    assert summaries["maximum"].tolist() == [9.0, 2.0]
    assert summaries["step_of_maximum"].tolist() == [20, 10]
    assert summaries["final"].tolist() == [4.0, 2.0]


def test_paired_difference_pairs_by_seed():
    first = pd.Series({0: 10.0, 1: 20.0, 2: 30.0})
    second = pd.Series({2: 29.0, 1: 19.0, 0: 9.0})
    assert paired_difference(first, second) == Estimate(1.0, 1.0, 1.0, 3)


def test_paired_difference_leaves_out_seeds_that_one_side_lacks():
    estimate = paired_difference(pd.Series({0: 3.0, 1: 5.0}), pd.Series({1: 4.0, 2: 100.0}))
    assert (estimate.mean, estimate.n) == (1.0, 1)


@pytest.mark.parametrize(("target", "step"), [(1, 10), (1.5, 20), (4, 30), (4.1, None)])
def test_steps_to_reach_is_the_first_step_at_or_above(target, step):
    assert steps_to_reach([10, 20, 30], [1, 3, 4], target) == step


def test_the_interval_of_a_median_is_that_of_a_normal_distribution_with_its_quartiles():
    # quartiles 1.348980 apart: s = 1, so the half is t(2) sqrt(pi / 2) / sqrt(3)
    estimate = median_interval(5.0, 4.325510, 5.674490, 3)
    assert (estimate.mean, estimate.n) == (5.0, 3)
    assert estimate.high - 5 == pytest.approx(T_2 * math.sqrt(math.pi / 6), rel=1e-5)


def test_p_is_the_level_where_the_interval_ends_and_a_half_at_the_mean():
    estimate = mean_interval([1.0, 2.0])
    assert p_above(estimate, estimate.low) == pytest.approx(LEVEL)
    assert p_above(estimate, estimate.high) == pytest.approx(1 - LEVEL)
    assert p_above(estimate, 1.5) == 0.5
    # one degree of freedom is Cauchy's distribution: t = 1 is a quarter
    assert p_above(estimate, 1.0) == pytest.approx(0.25)


def test_p_of_numbers_that_do_not_differ_is_0_or_1():
    estimate = mean_interval([5.0, 5.0])
    assert [p_above(estimate, c) for c in (4.0, 5.0, 6.0)] == [0, 1, 1]
    assert math.isnan(p_above(mean_interval([5.0]), 0))


def test_holms_correction_multiplies_by_what_is_left_and_never_decreases():
    # in order 0.01 x 4, 0.02 x 3, 0.025 x 2 (below the one before it), 0.5 x 1
    assert holm([0.02, 0.5, 0.01, 0.025]).tolist() == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.4, float("nan"), 0.6]).tolist() == [1, 1, 1]  # NaN has no test: 1
    assert holm([]).tolist() == []
