"""The words beside a figure: its caption and what its numbers show, all of it from the data."""

from collections.abc import Iterable

from paper_figures.figures import CONTROLS, CURVES, PAPER_STEPS, describe_n, drawn_curves
from paper_figures.load import (
    MINIBATCH,
    OWN,
    TRAINING,
    VALIDATION,
    Paper,
    Scale,
    describe_runs,
)
from paper_figures.statistics import (
    Estimate,
    mean_curve,
    mean_interval,
    paired_difference,
    run_summaries,
    steps_to_reach,
)

SUBJECTS = {
    1: "Batch Norm and Batch Renorm on i.i.d. minibatches of 32 (section 4.1)",
    2: "Batch Norm and Batch Renorm, minibatches normalized in microbatches of 4 (section 4.2)",
    3: "Non-i.i.d. minibatches, {}, labels x images of each (section 4.3)",
}
CROSS = (
    "; a thin line shows such a run up to the cross where it ends, and from there on the mean is "
    "that of the other runs"
)
THIN = (
    "Thin lines: the same images, shuffled over the step's minibatches before they are normalized."
)


def title(number: int, scale: Scale, structure: str = OWN) -> str:
    """Name a figure, with the structure of its minibatches if it is not the scale's own."""
    return f"Figure {number}" + (f", {scale.structures[structure]}" if structure else "")


def left_out(number: int, scale: Scale, structure: str = OWN) -> str | None:
    """Say why a figure cannot be drawn at this scale; None if it can.

    Curves whose runs are missing, as the manifest says, keep no figure from being drawn, unless
    nothing else is left of it.
    """
    curves = [curve.of(structure) for curve in CURVES[number]]
    absent = [curve for curve in curves if scale.values(curve.arm, curve.measure).empty]
    arms = list(dict.fromkeys(curve.arm for curve in absent if curve.arm not in scale.arms))
    reasons = [f"the scale {scale.name} does not run {', '.join(arms)}"] if arms else []
    reasons += [
        f"no {curve.measure} of {curve.arm} was measured"
        for curve in absent
        if curve.arm in scale.arms and curve.arm not in scale.missing
    ]
    if not reasons and len(absent) == len(curves):
        reasons = [f"its runs are missing: {describe_runs(_missing(number, scale, structure))}"]
    if not reasons:
        return None
    return f"{title(number, scale, structure)} is left out: {'; '.join(reasons)}."


def caption(number: int, scale: Scale, structure: str = OWN) -> str:
    """Describe a figure: subject, both panels, n, diverged runs, differences of protocol."""
    missing = _missing(number, scale, structure)
    arms = dict.fromkeys(curve.arm for curve in drawn_curves(number, scale, structure))
    subject = SUBJECTS[number].format(scale.structures[structure])
    sentences = [
        f"{title(number, scale, structure)}. {subject}: top-1 accuracy during training.",
        f"Ours, scale {scale.name} ({scale.manifest['title']}, {scale.total_steps:,} steps): "
        f"{describe_n(number, scale, structure)}.",
        *([f"Not finished, so not in it: {describe_runs(missing)}."] if missing else []),
        *describe_diverged(scale, arms, CROSS),
        f"The paper's: read off its figure, over the {PAPER_STEPS[number] // 1000}k steps of "
        "its axis; it gives no number of runs. The y axes differ.",
        *([THIN] if any("shuffled" in arm for arm in arms) else []),
        *scale.manifest["notes"],
    ]
    return " ".join(sentences)


def finding(number: int, scale: Scale, paper: Paper, structure: str = OWN) -> str:
    """State in one sentence what our runs of a figure show, with n and intervals."""
    parts = {1: _finding_1, 2: _finding_2, 3: _finding_3}[number](scale, paper, structure)
    return f"{title(number, scale, structure)}, {scale.name}: {'; '.join(parts)}."


def _missing(number, scale, structure):
    arms = [curve.of(structure).arm for curve in (*CURVES[number], *CONTROLS.get(number, ()))]
    return {arm: scale.missing[arm] for arm in dict.fromkeys(arms) if arm in scale.missing}


def _finding_1(scale, paper, _):
    return [_ends(scale, paper, ("brn-32",), ("bn-32",))]


def _finding_2(scale, paper, _):
    ends = _ends(scale, paper, ("brn-4",), ("bn-4",))
    if scale.values("bn-4").empty or scale.values("brn-4").empty:
        return [ends]
    target = run_summaries(scale.values("bn-4"))["final"].mean()
    mean = mean_curve(scale.values("brn-4"))
    ours = steps_to_reach(mean["step"], mean["mean"], target)
    bn, brn = paper.curve("bn-4"), paper.curve("brn-4")
    end = bn["accuracy_percent"].iloc[-1]
    theirs = steps_to_reach(brn["step"], brn["accuracy_percent"], end)
    reached = "does not reach it" if ours is None else f"reaches it at step {ours:,}"
    return [
        ends,
        f"bn-4 ends at {target:.1f} %, and the mean curve of brn-4 {reached} of "
        f"{scale.total_steps:,} (the paper's: {end:.1f} %, step {theirs:,} of {PAPER_STEPS[2]:,})",
    ]


def _finding_3(scale, paper, structure):
    bn, halves, brn = (f"{arm}{structure}" for arm in ("bn-noniid", "bn-halves", "brn-noniid"))
    parts = [
        _ends(scale, paper, first, (bn,), structure)
        for first in ((brn,), (halves,), (bn, MINIBATCH), (bn, TRAINING))
    ]
    if scale.values(bn).empty:
        return parts
    summaries = run_summaries(scale.values(bn))
    fall = mean_interval(summaries["maximum"] - summaries["final"])
    return [
        *parts,
        f"{bn} ends {fall.mean:z.1f} points below its own maximum ({evidence(fall)})",
    ]


def _ends(scale, paper, first, second, structure=OWN):
    """Compare where two curves end, paired by seed, beside the same difference in the paper."""
    finals = [run_summaries(scale.values(*curve))["final"] for curve in (first, second)]
    gap = paired_difference(*finals)
    theirs = [
        paper.curve(arm.removesuffix(structure), *measure)["accuracy_percent"].iloc[-1]
        for arm, *measure in (first, second)
    ]
    diverged = [
        f"{len(scale.diverged(arm))} of {arm}'s runs diverged"
        for arm in dict.fromkeys((first[0], second[0]))
        if scale.diverged(arm)
    ]
    if not gap.n:
        return f"no seed was measured both for {_name(*first)} and {_name(*second)}"
    shown = ", ".join([evidence(gap), *diverged])
    return (
        f"{_name(*first)} ends {points(gap.mean)} {_name(*second)} ({shown}; "
        f"the paper: {points(theirs[0] - theirs[1])})"
    )


def evidence(estimate: Estimate) -> str:
    """Write n and the interval of a difference, and whether 0 is in it."""
    if estimate.n < 2:
        return f"n = {estimate.n}, so no interval"
    doubt = ", which includes 0" if estimate.low <= 0 <= estimate.high else ""
    return f"n = {estimate.n}, 95 % interval {estimate.low:z.1f} to {estimate.high:z.1f}{doubt}"


def points(difference: float) -> str:
    """Write a difference as points above or below."""
    return f"{abs(difference):.1f} points {'below' if difference < 0 else 'above'}"


def _name(arm, measure=VALIDATION):
    evaluation = {TRAINING: " on training images", MINIBATCH: " with minibatch statistics"}
    return arm + evaluation.get(measure, "")


def describe_diverged(scale: Scale, arms: Iterable[str], shown: str = "") -> list[str]:
    """Say which runs of these arms diverged, and how that is shown: one sentence, or none."""
    diverged = {arm: scale.diverged(arm) for arm in arms if scale.diverged(arm)}
    if not diverged:
        return []
    return [f"Diverged: {describe_runs(diverged)}{shown}."]
