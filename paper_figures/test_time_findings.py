"""What the study of test-time statistics found: values of its measures, and sentences of them."""

import re

import numpy as np
import pandas as pd

from paper_figures.load import VALIDATION, Scale
from paper_figures.statistics import Estimate, mean_interval, paired_difference

TRAINED = ("bn-32", "brn-32", "bn-4")
RATES = ("bn-32-slow", "bn-32", "bn-32-fast")
WAYS = (
    "constants-32",
    "unclipped-32",
    "brn-32",
    "bn-32",
    "constants-32-cold",
    "unclipped-32-cold",
)
WARM_UP = 0.1  # of the run: batch normalization in the first four ways


def final(scale: Scale, arm: str, measure: str) -> pd.Series:
    """Return a measure's value at the last step, by seed; diverged runs have none."""
    return at_step(scale, arm, measure, scale.total_steps)


def members(scale: Scale, arm: str, pattern: str) -> dict[float, str]:
    """Return the measures of an arm that fit a pattern, by the number in it, ascending."""
    names = scale.measurements.query("arm == @arm")["measure"].unique()
    matches = [(name, re.fullmatch(pattern, name)) for name in names]
    return dict(sorted((float(match[1]), name) for name, match in matches if match))


def total_norm(scale: Scale, arm: str, kind: str = "weight_norm") -> pd.DataFrame:
    """Return the norm over all layers, as `Scale.values` does: root of the sum of squares."""
    rows = scale.measurements.query("arm == @arm")
    rows = rows[rows["measure"].str.startswith(f"{kind}_layer_")]
    squares = rows.assign(value=rows["value"] ** 2)
    sums = squares.groupby(["seed", "status", "step"], as_index=False)["value"].sum()
    return sums.assign(value=np.sqrt(sums["value"]))


def growth(scale: Scale, arm: str, values: pd.DataFrame | None = None) -> pd.Series:
    """Return, by seed, the last value over that at the end of the warm-up, of weights at first."""
    values = total_norm(scale, arm) if values is None else values
    start = values[values["step"] == round(WARM_UP * scale.total_steps)].set_index("seed")["value"]
    last = values.sort_values("step").groupby("seed")["value"].last()
    return last / start


def middle_step(scale: Scale) -> int:
    """Return the step nearest the middle of the run at which statistics were compared."""
    steps = scale.values("bn-32", "minibatch_mean_noise")["step"].unique()
    return int(min(steps, key=lambda step: (abs(step - scale.total_steps / 2), step)))


def at_step(scale: Scale, arm: str, measure: str, step: int) -> pd.Series:
    """Return a measure's value at a step, by seed."""
    values = scale.values(arm, measure)
    return values[values["step"] == step].set_index("seed")["value"]


def noise_factor(alpha: float) -> float:
    """Return the standard deviation of a running average of independent values, over theirs."""
    return np.sqrt(alpha / (2 - alpha))


def rate_of(arm: str) -> str:
    """Say with which learning rate an arm of `RATES` trains."""
    kinds = {"slow": "a quarter of the learning rate", "fast": "four times the learning rate"}
    return kinds.get(arm.rsplit("-", 1)[-1], "the learning rate")


def corruptions(scale: Scale) -> list[str]:
    """Name what test images were corrupted by, in the order of measurement."""
    names = scale.measurements.query("arm == 'bn-32'")["measure"].unique()
    pattern = r"accuracy_((?:clean|mixed|brightness|contrast|noise).*)_minibatch_percent"
    return [match[1] for match in (re.fullmatch(pattern, name) for name in names) if match]


# Words


def show(estimate: Estimate, digits: int = 1) -> str:
    """Write an estimate with its interval, where it has one."""
    if estimate.n < 2:
        return f"{estimate.mean:z.{digits}f}"
    low, high = f"{estimate.low:z.{digits}f}", f"{estimate.high:z.{digits}f}"
    return f"{estimate.mean:z.{digits}f} [{low}, {high}]"


def _value(scale, arm, measure, digits=1):
    return show(mean_interval(final(scale, arm, measure)), digits)


def _gap(scale, arm, first, second):
    names = (f"accuracy_{first}_percent", f"accuracy_{second}_percent")
    return paired_difference(*(final(scale, arm, name) for name in names))


def _n(scale, arms):
    counts = {scale.runs.query("arm == @arm")["seed"].nunique() for arm in arms}
    n = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
    interval = "" if max(counts) == 1 else ", [95 % t interval]"
    return f"(Scale {scale.name}, n = {n}{interval}.)"


def find_averages(scale: Scale) -> str:
    """State what averages and minibatches of each size are worth, and what lag and noise are."""
    sizes = members(scale, "bn-32", r"accuracy_minibatch_(\d+)_percent")
    text = []
    for arm in TRAINED:
        running, population, test = (
            _value(scale, arm, f"accuracy_{kind}_percent")
            for kind in ("running", "population", "test_set")
        )
        as_good = []  # sizes from which on no larger one is worse
        for size in sorted(map(int, sizes), reverse=True):
            if not _gap(scale, arm, f"minibatch_{size:03}", "running").high >= 0:
                break
            as_good.insert(0, size)
        small = ", ".join(
            f"{_value(scale, arm, f'accuracy_minibatch_{size:03}_percent')} % with {size}"
            for size in (1, 4, 32, 512)
        )
        reaches = (
            f"; from {as_good[0]} images on, the interval of the difference to the running average "
            "no longer lies below 0"
            if as_good
            else ""
        )
        text.append(
            f"{arm}: {running} % with the running average, {population} % with the population's "
            f"statistics, {test} % with the whole test set's; with the test minibatch's own "
            f"{small} images{reaches}."
        )
    alphas = members(scale, "bn-32", r"accuracy_alpha_([\d.]+)_percent")
    kept = ", ".join(f"{_value(scale, 'bn-32', n)} % with alpha {a:g}" for a, n in alphas.items())
    text.append(f"Running averages of the same bn-32 runs: {kept}.")
    middle = middle_step(scale)
    distances = members(scale, "bn-32", r"mean_distance_alpha_([\d.]+)")
    for arm in RATES:
        means = {
            a: mean_interval(at_step(scale, arm, name, middle)) for a, name in distances.items()
        }
        best = min(means, key=lambda alpha: means[alpha].mean)
        noise = at_step(scale, arm, "minibatch_mean_noise", middle).mean() * noise_factor(best)
        text.append(
            f"With {rate_of(arm)}, at step {middle} the average of alpha {best:g} is nearest the "
            f"population's mean of those tried: {show(means[best], 3)} standard deviations away, "
            f"of which noise alone is {noise:.3f}; that of alpha {min(means):g} is "
            f"{show(means[min(means)], 3)} away."
        )
    for arm in ("bn-32", "bn-4"):
        text.append(
            f"With the weights held still, {arm}'s minibatches average to a mean "
            f"{_value(scale, arm, 'mean_distance_still', 3)} away and a log standard deviation "
            f"{_value(scale, arm, 'stddev_distance_still', 3)} away from the population's."
        )
    return _list(text, scale, (*TRAINED, *RATES))


def find_minibatches(scale: Scale) -> str:
    """State how much mates, structure and corruption change."""
    text = []
    for arm in TRAINED:
        changed = ", ".join(
            f"{_value(scale, arm, f'changes_minibatch_{size:03}_percent')} % (logits move by "
            f"{_value(scale, arm, f'movement_minibatch_{size:03}', 2)}) in minibatches of {size}"
            for size in (2, 32, 512)
        )
        text.append(f"{arm}: among other mates the prediction is another in {changed}.")
    for arm in TRAINED:
        few = ", ".join(
            f"{_value(scale, arm, f'accuracy_classes_{k:02}_minibatch_percent')} % with {k}"
            for k in (16, 4, 1)
        )
        text.append(
            f"{arm}, minibatches of 16, by the number of classes in them: {few}; the running "
            "average on the last ones "
            f"{_value(scale, arm, 'accuracy_classes_01_running_percent')} %."
        )
    gaps = {n: _gap(scale, "bn-32", f"{n}_minibatch", f"{n}_running") for n in corruptions(scale)}
    for verb, chosen in (
        ("help", {n: g for n, g in gaps.items() if g.low > 0}),
        ("harm", {n: g for n, g in gaps.items() if g.high < 0}),
        (
            "are not shown to help or to harm",
            {n: g for n, g in gaps.items() if not (g.low > 0 or g.high < 0)},
        ),
    ):
        if chosen:
            which = ", ".join(f"{n.replace('_', ' ')} ({show(g)})" for n, g in chosen.items())
            text.append(
                f"bn-32: the statistics of minibatches of 64 {verb} where images are (points more "
                f"than with the running average): {which}."
            )
    return _list(text, scale, TRAINED)


def find_training(scale: Scale) -> str:
    """State what becomes of each way to train."""
    text = []
    for arm in WAYS:
        loss = show(mean_interval(final(scale, arm, "training_loss")), 2)
        diverged = scale.diverged(arm)
        text.append(
            f"{arm}: loss {loss} at the end, {_value(scale, arm, VALIDATION)} % right; the norm of "
            f"all kernels is {show(mean_interval(growth(scale, arm)), 2)} times that at step "
            f"{round(WARM_UP * scale.total_steps)}"
            + (f"; {len(diverged)} run(s) diverged." if diverged else ".")
        )
    logs = [np.log(growth(scale, arm)) for arm in ("constants-32", "unclipped-32")]
    difference = paired_difference(*logs)
    verdict = "not decided"
    if difference.n > 1:
        verdict = "larger" if difference.low > 0 else "smaller" if difference.high < 0 else verdict
    text.append(
        f"Log growth of constants-32 over that of unclipped-32: {show(difference, 2)}, by the "
        f"protocol's criterion {verdict}."
    )
    return _list(text, scale, WAYS)


def _list(text, scale, arms):
    return "\n".join(f"- {line}" for line in text) + f"\n\n{_n(scale, arms)}"
