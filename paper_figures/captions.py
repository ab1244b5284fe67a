"""The words beside a figure: its caption and what its numbers show, all of it from the data."""

from paper_figures.figures import CURVES, PAPER_STEPS, describe_n
from paper_figures.load import MINIBATCH, TRAINING, VALIDATION, Paper, Scale
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
    3: "Non-i.i.d. minibatches, made of pairs of images with one label (section 4.3)",
}


def left_out(number: int, scale: Scale) -> str | None:
    """Say why a figure cannot be drawn at this scale; None if it can."""
    absent = [curve for curve in CURVES[number] if scale.values(curve.arm, curve.measure).empty]
    if not absent:
        return None
    arms = list(dict.fromkeys(c.arm for c in absent if c.arm not in set(scale.runs["arm"])))
    reasons = [f"the scale {scale.name} does not run {', '.join(arms)}"] if arms else []
    reasons += [f"no {c.measure} of {c.arm} was measured" for c in absent if c.arm not in arms]
    return f"Figure {number} is left out: {'; '.join(reasons)}."


def caption(number: int, scale: Scale) -> str:
    """Describe a figure: subject, both panels, n, diverged runs, differences of protocol."""
    sentences = [
        f"Figure {number}. {SUBJECTS[number]}: top-1 accuracy during training.",
        f"Ours, scale {scale.name} ({scale.manifest['title']}, {scale.total_steps:,} steps): "
        f"{describe_n(number, scale)}.",
        *_describe_diverged(number, scale),
        f"The paper's: read off its figure, over the {PAPER_STEPS[number] // 1000}k steps of "
        "its axis; it gives no number of runs. The y axes differ.",
        *scale.manifest["notes"],
    ]
    return " ".join(sentences)


def finding(number: int, scale: Scale, paper: Paper) -> str:
    """State in one sentence what our runs of a figure show, with n and intervals."""
    parts = {1: _finding_1, 2: _finding_2, 3: _finding_3}[number](scale, paper)
    return f"Figure {number}, {scale.name}: {'; '.join(parts)}."


def _finding_1(scale, paper):
    return [_ends(scale, paper, ("brn-32",), ("bn-32",))]


def _finding_2(scale, paper):
    target = run_summaries(scale.values("bn-4"))["final"].mean()
    mean = mean_curve(scale.values("brn-4"))
    ours = steps_to_reach(mean["step"], mean["mean"], target)
    bn, brn = paper.curve("bn-4"), paper.curve("brn-4")
    end = bn["accuracy_percent"].iloc[-1]
    theirs = steps_to_reach(brn["step"], brn["accuracy_percent"], end)
    reached = "does not reach it" if ours is None else f"reaches it at step {ours:,}"
    return [
        _ends(scale, paper, ("brn-4",), ("bn-4",)),
        f"bn-4 ends at {target:.1f} %, and the mean curve of brn-4 {reached} of "
        f"{scale.total_steps:,} (the paper's: {end:.1f} %, step {theirs:,} of {PAPER_STEPS[2]:,})",
    ]


def _finding_3(scale, paper):
    summaries = run_summaries(scale.values("bn-noniid"))
    fall = mean_interval(summaries["maximum"] - summaries["final"])
    return [
        _ends(scale, paper, ("brn-noniid",), ("bn-noniid",)),
        _ends(scale, paper, ("bn-halves",), ("bn-noniid",)),
        _ends(scale, paper, ("bn-noniid", MINIBATCH), ("bn-noniid",)),
        _ends(scale, paper, ("bn-noniid", TRAINING), ("bn-noniid",)),
        f"bn-noniid ends {fall.mean:z.1f} points below its own maximum ({_evidence(fall)})",
    ]


def _ends(scale, paper, first, second):
    """Compare where two curves end, paired by seed, beside the same difference in the paper."""
    finals = [run_summaries(scale.values(*curve))["final"] for curve in (first, second)]
    gap = paired_difference(*finals)
    theirs = [paper.curve(*curve)["accuracy_percent"].iloc[-1] for curve in (first, second)]
    diverged = [
        f"{len(scale.diverged(arm))} of {arm}'s runs diverged"
        for arm in dict.fromkeys((first[0], second[0]))
        if scale.diverged(arm)
    ]
    if not gap.n:
        return f"no seed was measured both for {_name(*first)} and {_name(*second)}"
    evidence = ", ".join([_evidence(gap), *diverged])
    return (
        f"{_name(*first)} ends {_points(gap.mean)} {_name(*second)} ({evidence}; "
        f"the paper: {_points(theirs[0] - theirs[1])})"
    )


def _evidence(estimate: Estimate):
    if estimate.n < 2:
        return f"n = {estimate.n}, so no interval"
    doubt = ", which includes 0" if estimate.low <= 0 <= estimate.high else ""
    return f"n = {estimate.n}, 95 % interval {estimate.low:z.1f} to {estimate.high:z.1f}{doubt}"


def _points(difference):
    return f"{abs(difference):.1f} points {'below' if difference < 0 else 'above'}"


def _name(arm, measure=VALIDATION):
    evaluation = {TRAINING: " on training images", MINIBATCH: " with minibatch statistics"}
    return arm + evaluation.get(measure, "")


def _describe_diverged(number, scale):
    arms = dict.fromkeys(curve.arm for curve in CURVES[number])
    diverged = [f"{arm} seed {seed}" for arm in arms for seed in scale.diverged(arm)]
    if not diverged:
        return []
    return [
        f"Diverged: {', '.join(diverged)}; a thin line shows such a run up to the cross where it "
        "ends, and from there on the mean is that of the other runs."
    ]
