"""How numbers and runs are written, the same in captions, findings and tables."""

from collections.abc import Iterable

import pandas as pd

from paper_figures.load import (
    MINIBATCH,
    TRAINING,
    TRAINING_MODE,
    VALIDATION,
    Protocol,
    describe_runs,
)
from paper_figures.statistics import Estimate, paired_difference

INTERVAL = "[95 % t interval]"
CROSS = (
    "; a thin line shows such a run up to the cross where it ends, and from there on the mean is "
    "that of the other runs"
)


def show(estimate: Estimate, digits: int = 1) -> str:
    """Write an estimate as `74.2 [73.1, 75.3]`, without the interval where there is none."""
    if estimate.n == 0:
        return "not measured"
    mean, low, high = (
        f"{value:z.{digits}f}" for value in (estimate.mean, estimate.low, estimate.high)
    )
    return f"{mean} [{low}, {high}]" if estimate.n > 1 else mean


def evidence(estimate: Estimate) -> str:
    """Write n and the interval of a difference, and whether 0 is in it."""
    if estimate.n < 2:
        return f"n = {estimate.n}, so no interval"
    doubt = ", which includes 0" if estimate.low <= 0 <= estimate.high else ""
    return f"n = {estimate.n}, 95 % interval [{estimate.low:z.1f}, {estimate.high:z.1f}]{doubt}"


def points(difference: float) -> str:
    """Write a difference as points above or below."""
    return f"{abs(difference):.1f} points {'below' if difference < 0 else 'above'}"


def compare(first: pd.Series, second: pd.Series, names: tuple[str, str], more: str = "") -> str:
    """Say how far one number a seed ends above another, paired by seed.

    Args:
        first, second: By seed.
        names: Of the two.
        more: What stands beside n and the interval.
    """
    gap = paired_difference(first, second)
    if not gap.n:
        return f"no seed was measured both for {names[0]} and {names[1]}"
    return f"{names[0]} ends {points(gap.mean)} {names[1]} ({evidence(gap)}{more})"


def name_curve(arm: str, measure: str = VALIDATION) -> str:
    """Name an arm, and its evaluation where that is not the plain one."""
    evaluations = {
        TRAINING: " on training images",
        MINIBATCH: " with minibatch statistics",
        TRAINING_MODE: " in training mode",
    }
    return arm + evaluations.get(measure, "")


def describe_n(counts: Iterable[int], drawn: str = "band") -> str:
    """Say of how many seeds something is the mean, and what the band (or bars) is."""
    counts = set(counts) - {0}
    if not counts:
        return "no run has ended"
    if max(counts) == 1:
        return "n = 1, a single seed: no interval"
    fewest = f"{min(counts)} to " if min(counts) < max(counts) else ""
    return f"mean of n = {fewest}{max(counts)} seeds, {drawn}: 95 % t interval"


def count(protocol: Protocol, arm: str, measure: str = VALIDATION) -> int:
    """Count the seeds with which a measure of an arm was taken."""
    return protocol.values(arm, measure)["seed"].nunique()


def describe_protocol(protocol: Protocol) -> str:
    """Name a protocol, with its title and length."""
    return (
        f"protocol {protocol.name} ({protocol.manifest['title']}, {protocol.total_steps:,} steps)"
    )


def describe_missing(protocol: Protocol, arms: Iterable[str]) -> list[str]:
    """Say which runs of these arms have no result yet: one sentence, or none."""
    missing = {arm: protocol.missing[arm] for arm in arms if arm in protocol.missing}
    return [f"Not finished, so not in it: {describe_runs(missing)}."] if missing else []


def describe_diverged(protocol: Protocol, arms: Iterable[str], shown: str = "") -> list[str]:
    """Say which runs of these arms diverged, and how that is shown: one sentence, or none."""
    diverged = {arm: protocol.diverged(arm) for arm in arms if protocol.diverged(arm)}
    return [f"Diverged: {describe_runs(diverged)}{shown}."] if diverged else []


def counted_with_chance(protocol: Protocol) -> str:
    """Say what a diverged run counts with."""
    return f"A diverged run counts with {protocol.chance:.2g} %, chance level."
