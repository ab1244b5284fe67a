"""Estimates over seeds: pure functions, no files, no drawing.

Every interval is Student's t interval of a mean over n independent seeds,
`mean +- t(0.975, n - 1) s / sqrt(n)` with `s` the standard deviation (n - 1 in the denominator).
It does not exist for n = 1; its ends are then NaN. To end above a threshold is to pass the
one-sided t test of level 2.5 %; over a family of judgements Holm's correction is to be had.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
LEVEL = (1 - CONFIDENCE) / 2
"""Of a one-sided test that rejects where the interval ends beyond a threshold."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds with the ends of its interval (NaN where n < 2)."""

    mean: float
    low: float
    high: float
    n: int


def half_width(deviation, n):
    """Half the width of the interval, `t(0.975, n - 1) s / sqrt(n)`; NaN where `n` < 2.

    Args:
        deviation: Sample standard deviation `s`, a number or an array.
        n: Number of seeds, of the same shape.
    """
    n = np.asarray(n, dtype=float)
    quantile = stdtrit(np.where(n > 1, n - 1, np.nan), 1 - LEVEL)
    return quantile * deviation / np.sqrt(n)


def mean_interval(values) -> Estimate:
    """Estimate the mean of one number a seed (all NaN if there is no number)."""
    values = pd.Series(values, dtype=float)
    mean, half = values.mean(), half_width(values.std(), len(values))
    return Estimate(float(mean), float(mean - half), float(mean + half), len(values))


def geometric_interval(factors) -> Estimate:
    """Estimate a factor by the mean of its logarithms: the interval stays above 0."""
    logs = mean_interval(np.log(factors))
    return Estimate(*(float(np.exp(x)) for x in (logs.mean, logs.low, logs.high)), logs.n)


def median_interval(median: float, q25: float, q75: float, n: int) -> Estimate:
    """Estimate a median of `n` numbers by their quartiles, as if they were normally distributed.

    There a median has the standard error `sqrt(pi / 2) s / sqrt(n)`, and the quartiles lie 1.349 s
    apart. The interval is Student's t as of a mean; `Estimate.mean` holds the median.
    """
    deviation = (q75 - q25) / (2 * ndtri(0.75))
    half = half_width(np.sqrt(np.pi / 2) * deviation, n)
    return Estimate(float(median), float(median - half), float(median + half), n)


def p_above(estimate: Estimate, threshold: float) -> float:
    """The p value of the one-sided t test that the mean is above a threshold.

    It is below `LEVEL` where the interval begins above the threshold. Where all numbers are the
    same, t is infinite and p is 0, or 1 if they are not above it; with fewer than two it is NaN.
    """
    half = estimate.high - estimate.mean
    if half == 0:
        return float(estimate.mean <= threshold)
    freedom = estimate.n - 1
    t = (estimate.mean - threshold) / half * stdtrit(freedom, 1 - LEVEL)
    return float(stdtr(freedom, -t))


def holm(p_values) -> np.ndarray:
    """Holm's adjusted p values of a family: at most `LEVEL` where a test still rejects.

    Of m values in ascending order, the k-th is multiplied by m - k + 1, and none is less than the
    one before it or more than 1. NaN, a judgement without a test, counts as 1.
    """
    p = np.nan_to_num(np.asarray(p_values, dtype=float), nan=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


def mean_curve(values: pd.DataFrame) -> pd.DataFrame:
    """Average one arm's curves step by step, over the runs that were measured at that step.

    A step at which only a diverged run was measured while others finished (a run's very last,
    say) is left out, so that the mean never jumps to a single run and back.

    Args:
        values: The columns `seed, status, step, value`.

    Returns:
        The columns `step, mean, low, high, n`, sorted by step.
    """
    finished = values.loc[values["status"] == "finished", "step"]
    if len(finished):
        values = values[values["step"].isin(finished)]
    curve = values.groupby("step")["value"].agg(mean="mean", deviation="std", n="count")
    half = half_width(curve["deviation"], curve["n"])
    curve = curve.assign(low=curve["mean"] - half, high=curve["mean"] + half)
    return curve.reset_index()[["step", "mean", "low", "high", "n"]]


def run_summaries(values: pd.DataFrame) -> pd.DataFrame:
    """Summarize each run by its highest and its last measured value.

    Args:
        values: The columns `seed, step, value`. Of a diverged run they hold what was measured
            before it diverged.

    Returns:
        Indexed by seed: `maximum`, `step_of_maximum` (the first such step), `final`.
    """
    values = values.sort_values(["seed", "step"])
    highest = values.loc[values.groupby("seed")["value"].idxmax()].set_index("seed")
    final = values.groupby("seed")["value"].last()
    return pd.DataFrame(
        {"maximum": highest["value"], "step_of_maximum": highest["step"], "final": final}
    )


def paired_difference(first: pd.Series, second: pd.Series) -> Estimate:
    """Estimate the mean of `first - second` over the seeds that both have (their index)."""
    return mean_interval((first - second).dropna())


def steps_to_reach(steps, values, target: float) -> int | None:
    """Find the first of the (ascending) steps at which a value is at least `target`."""
    reached = np.flatnonzero(np.asarray(values) >= target)
    return int(np.asarray(steps)[reached[0]]) if len(reached) else None
