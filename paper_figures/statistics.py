"""Estimates over seeds: pure functions, no files, no drawing.

Every interval is Student's t interval of a mean over n independent seeds,
`mean +- t(0.975, n - 1) s / sqrt(n)` with `s` the standard deviation (n - 1 in the denominator).
It does not exist for n = 1; its ends are then NaN.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

CONFIDENCE = 0.95


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
    quantile = stdtrit(np.where(n > 1, n - 1, np.nan), 0.5 + CONFIDENCE / 2)
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
