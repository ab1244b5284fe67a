"""What the study of test-time statistics found: values of its measures, and tables of them."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from paper_figures.claims.numbers import finals
from paper_figures.load import Scale
from paper_figures.statistics import (
    Estimate,
    geometric_interval,
    mean_interval,
    paired_difference,
)
from paper_figures.tables import to_markdown

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
LETTERS = {"constants-32": "a", "unclipped-32": "b", "brn-32": "c", "bn-32": "d"}
NOISE_MINIBATCHES = 32
"""Whose mean statistics are compared with the population's, the weights held still."""
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


@dataclass(frozen=True)
class Finding:
    """One thing that was found: a line of words, and a table of strings where it has one."""

    words: str
    table: pd.DataFrame | None = None


def write(findings: list[Finding]) -> str:
    """Write findings as Markdown."""
    parts = [
        part
        for finding in findings
        for part in (finding.words, "" if finding.table is None else to_markdown(finding.table))
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part)


def show(estimate: Estimate, digits: int = 1) -> str:
    """Write an estimate with its interval, where it has one."""
    if estimate.n < 2:
        return f"{estimate.mean:z.{digits}f}"
    low, high = f"{estimate.low:z.{digits}f}", f"{estimate.high:z.{digits}f}"
    return f"{estimate.mean:z.{digits}f} [{low}, {high}]"


def _value(scale, arm, measure, digits=1):
    return show(mean_interval(final(scale, arm, measure)), digits)


def _by_arm(scale, head, rows):
    """A table with a column for each arm of `TRAINED`; rows are `(name, measure, digits)`."""
    return pd.DataFrame(
        [
            {head: name, **{arm: _value(scale, arm, measure, digits) for arm in TRAINED}}
            for name, measure, digits in rows
        ]
    )


def _gap(scale, arm, first, second):
    names = (f"accuracy_{first}_percent", f"accuracy_{second}_percent")
    return paired_difference(*(final(scale, arm, name) for name in names))


def _n(scale, arms):
    """Say of which scale and how many seeds findings are: the last of each question."""
    counts = {scale.runs.query("arm == @arm")["seed"].nunique() for arm in arms}
    n = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
    interval = "" if max(counts) == 1 else ", [95 % t interval]"
    return Finding(f"(Scale {scale.name}, n = {n}{interval}.)")


def find_averages(scale: Scale) -> list[Finding]:
    """State what averages and minibatches of each size are worth, and what lag and noise are."""
    rows = [
        ("running average", "accuracy_running_percent", 1),
        ("population", "accuracy_population_percent", 1),
        ("all test images", "accuracy_test_set_percent", 1),
    ]
    for size in (1, 4, 32, 512):
        images = "test image" if size == 1 else "test images"
        rows.append((f"{size} {images}", f"accuracy_minibatch_{size:03}_percent", 1))
    head = "statistics of"
    enough = {arm: _as_good_from(scale, arm) for arm in TRAINED}
    last = [
        *(
            {head: f"{words}, paired", **{a: show(_gap(scale, a, *kinds)) for a in TRAINED}}
            for words, kinds in (
                ("population - running average", ("population", "running")),
                ("all test images - population", ("test_set", "population")),
            )
        ),
        {head: "not shown to be worse than the running average", **enough},
    ]
    worth = pd.concat([_by_arm(scale, head, rows), pd.DataFrame(last)], ignore_index=True)
    middle = middle_step(scale)
    return [
        Finding("Accuracy, %, by the statistics that test images are normalized with:", worth),
        Finding(
            "Running averages of the same runs, by alpha: the accuracy of bn-32 with them, %, and "
            f"how far they are at step {middle} from the population's mean, in standard "
            "deviations. Slow and fast are a quarter of and four times the learning rate; the last "
            "column would be the distance of bn-32 if there were only noise.",
            _by_alpha(scale, middle),
        ),
        Finding(
            "Distance of the running averages from the population's standard deviation, "
            "`log(stddev / sigma)`, early and at the end, and the alpha with the least:",
            _as_it_settles(scale),
        ),
        Finding(
            "With the weights held still, the distance of the minibatches' mean statistics from "
            "the population's:",
            _still(scale),
        ),
        _n(scale, (*TRAINED, *RATES)),
    ]


def _as_good_from(scale, arm):
    """Say from which size of the test minibatch on no difference to the running average is < 0."""
    sizes = members(scale, arm, r"accuracy_minibatch_(\d+)_percent")
    smallest = None
    for size in sorted(map(int, sizes), reverse=True):
        if not _gap(scale, arm, f"minibatch_{size:03}", "running").high >= 0:
            break
        smallest = size
    return "-" if smallest is None else f"{smallest} and more"


def _by_alpha(scale, middle):
    """Accuracy and distance of the running averages of `bn-32`, by alpha."""
    distances = members(scale, "bn-32", r"mean_distance_alpha_([\d.]+)")
    accuracies = members(scale, "bn-32", r"accuracy_alpha_([\d.]+)_percent")
    noise = at_step(scale, "bn-32", "minibatch_mean_noise", middle).mean()
    return pd.DataFrame(
        [
            {
                "alpha": f"{alpha:g}",
                "accuracy": _value(scale, "bn-32", accuracies[alpha]),
                **{
                    f"distance, {arm}": show(mean_interval(at_step(scale, arm, name, middle)), 3)
                    for arm in RATES
                },
                "noise alone": f"{noise * noise_factor(alpha):.3f}",
            }
            for alpha, name in distances.items()
        ]
    )


def _as_it_settles(scale):
    """Distance of the standard deviation by alpha, at the first comparison and the last."""
    measures = members(scale, "bn-32", r"stddev_distance_alpha_([\d.]+)")
    first = int(scale.values("bn-32", "minibatch_mean_noise")["step"].min())
    columns = {}
    for arm in ("bn-32", "bn-4"):
        for step in (first, scale.total_steps):
            found = {a: mean_interval(at_step(scale, arm, m, step)) for a, m in measures.items()}
            nearest = min(found, key=lambda alpha: found[alpha].mean)
            columns[f"{arm}, step {step}"] = [*(show(e, 3) for e in found.values()), f"{nearest:g}"]
    return pd.DataFrame({"alpha": [*(f"{alpha:g}" for alpha in measures), "nearest"], **columns})


def _still(scale):
    """Distance that no momentum removes, and how much of it is noise of the minibatches."""
    arms = ("bn-32", "bn-4")
    noise = {arm: final(scale, arm, "minibatch_mean_noise") for arm in arms}
    minibatches = np.sqrt(NOISE_MINIBATCHES)
    rows = [
        ("mean", {a: final(scale, a, "mean_distance_still") for a in arms}),
        ("mean, if it were noise alone", {a: noise[a] / minibatches for a in arms}),
        ("log standard deviation", {a: final(scale, a, "stddev_distance_still") for a in arms}),
    ]
    return pd.DataFrame(
        [
            {"statistic": name, **{arm: show(mean_interval(v), 3) for arm, v in values.items()}}
            for name, values in rows
        ]
    )


def find_minibatches(scale: Scale) -> list[Finding]:
    """State how much mates, structure and corruption change."""
    head, sizes = "test minibatch of", (2, 8, 32, 128, 512)
    return [
        Finding(
            "How often the same image among other mates gets another prediction, %:",
            _by_arm(
                scale,
                head,
                [(f"{k} images", f"changes_minibatch_{k:03}_percent", 1) for k in sizes],
            ),
        ),
        Finding(
            "How far its logits move, in standard deviations of an image's logits:",
            _by_arm(scale, head, [(f"{k} images", f"movement_minibatch_{k:03}", 2) for k in sizes]),
        ),
        Finding(
            "Accuracy, %, in test minibatches of 16 images of few classes:",
            _by_arm(
                scale,
                "classes in the minibatch",
                [
                    (f"{k}{name}", f"accuracy_classes_{k:02}_{kind}_percent", 1)
                    for kind, name in (("minibatch", ""), ("running", ", running average"))
                    for k in (16, 4, 1)
                ],
            ),
        ),
        Finding(
            "Corrupted test images: by how many points bn-32 is more accurate with the statistics "
            "of minibatches of 64 than with the running average, and whether they help:",
            _by_corruption(scale),
        ),
        _n(scale, TRAINED),
    ]


def _by_corruption(scale):
    """What minibatch statistics win, and whether the interval is on one side of 0."""
    rows = []
    for name in corruptions(scale):
        gap = _gap(scale, "bn-32", f"{name}_minibatch", f"{name}_running")
        verdict = "they help" if gap.low > 0 else "they harm" if gap.high < 0 else "not decided"
        rows.append({"images": name.replace("_", " "), "points": show(gap), "verdict": verdict})
    return pd.DataFrame(rows)


def find_training(scale: Scale) -> list[Finding]:
    """State what becomes of each way to train; a diverged run has the accuracy of chance."""
    accuracies = {arm: finals(scale, arm) for arm in WAYS}
    rows = []
    for arm in WAYS:
        diverged = len(scale.diverged(arm))
        rows.append(
            {
                "way": f"{arm} ({LETTERS[arm]})" if arm in LETTERS else arm,
                "loss": show(mean_interval(final(scale, arm, "training_loss")), 2),
                "accuracy, %": show(mean_interval(accuracies[arm])),
                "accuracy - (d)": "-"
                if arm == "bn-32"
                else show(paired_difference(accuracies[arm], accuracies["bn-32"])),
                "norm of all kernels": show(mean_interval(growth(scale, arm)), 2),
                **({"diverged runs": str(diverged)} if diverged else {}),
            }
        )
    logs = [np.log(growth(scale, arm)) for arm in ("constants-32", "unclipped-32")]
    difference = paired_difference(*logs)
    verdict = "not decided"
    if difference.n > 1:
        verdict = "larger" if difference.low > 0 else "smaller" if difference.high < 0 else verdict
    warm = round(WARM_UP * scale.total_steps)
    return [
        Finding(
            "At the end of training: loss, accuracy with the running average, the same less that "
            "of (d), paired, and the norm of all kernels, as a multiple of that at step "
            f"{warm}:",
            pd.DataFrame(rows).fillna("0"),
        ),
        Finding(
            f"Log growth of constants-32 over that of unclipped-32: {show(difference, 2)}, by the "
            f"protocol's criterion {verdict}."
        ),
        Finding(
            "The layer with the least and the one with the most, means over seeds: growth of the "
            f"activations before normalization since step {warm}, their root mean square after "
            "normalization with the averages at the end, and the standard deviation of that over "
            "the evaluations of a run's second half:",
            _activations(scale),
        ),
        _n(scale, WAYS),
    ]


def _activations(scale):
    """Range over layers of the growth before normalization, and of what is left after it."""
    rows = []
    for arm, letter in LETTERS.items():
        before = members(scale, arm, r"activation_rms_layer_(\d+)").values()
        after = members(scale, arm, r"normalized_rms_layer_(\d+)").values()
        grown = [
            geometric_interval(growth(scale, arm, scale.values(arm, name))).mean for name in before
        ]
        left = [final(scale, arm, name).mean() for name in after]
        moved = [_fluctuation(scale.values(arm, name), scale.total_steps / 2) for name in after]
        rows.append(
            {
                "way": f"{arm} ({letter})",
                "growth before": f"{min(grown):.1f} to {max(grown):.1f}",
                "root mean square after": f"{min(left):.2f} to {max(left):.2f}",
                "its fluctuation": f"{min(moved):.2f} to {max(moved):.2f}",
            }
        )
    return pd.DataFrame(rows)


def _fluctuation(values, start):
    """Standard deviation over the steps of a run after `start`, root mean square over seeds."""
    late = values[values["step"] > start]
    return np.sqrt(late.groupby("seed")["value"].var().mean())
