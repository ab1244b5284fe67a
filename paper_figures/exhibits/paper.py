"""Figures 1 to 3 of the paper, ours beside the paper's.

For every protocol that repeats one of the paper's arms. Figure 3 comes once for each structure of
non-i.i.d. minibatches, and shows below the accuracies what of them is normalization's: differences
to the control, the same images shuffled over the step's minibatches before they are normalized.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.drawing import (
    COLOURS,
    Look,
    draw_mean,
    late_limits,
    legend,
    new_figure,
    styled,
    training_axis,
)
from paper_figures.exhibit import Exhibit, Section
from paper_figures.exhibits.paper_views import (
    CURVES,
    PAPER_STEPS,
    TWINS,
    View,
    difference_to_control,
    views,
)
from paper_figures.load import MINIBATCH, TRAINING, TRAINING_MODE, VALIDATION, Results
from paper_figures.statistics import mean_curve, mean_interval, run_summaries, steps_to_reach
from paper_figures.words import (
    CROSS,
    compare,
    count,
    describe_diverged,
    describe_missing,
    describe_n,
    describe_protocol,
    evidence,
    name_curve,
    points,
)

PLACE = 1
SUBJECTS = {
    1: "Batch Norm and Batch Renorm on i.i.d. minibatches of 32 (section 4.1)",
    2: "Batch Norm and Batch Renorm, minibatches normalized in microbatches of 4 (section 4.2)",
    3: "Non-i.i.d. minibatches, {}, labels x images of each (section 4.3)",
}
THIN = (
    "Thin lines: controls, the same images shuffled over the step's minibatches before they are "
    "normalized; grey: i.i.d. minibatches."
)
BELOW = (
    "Below: differences, ours to the control, paired by seed, each accuracy to that of the same "
    "kind (minibatch statistics to inference), the paper's to its i.i.d. curve of the same "
    "normalization."
)
MODE = (
    "In training mode: on the augmented training minibatches since the evaluation before, with "
    "their own statistics."
)


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the figures of every protocol that repeats an arm of the paper."""
    for protocol in results.protocols:
        if not any(about["paper"] for about in protocol.arms.values()):
            continue
        section = Section.of(protocol)
        for view in views(protocol, results.paper):
            if reason := left_out(view):
                yield Exhibit(section, view.name, view.title, left_out=reason)
                continue
            yield Exhibit(
                section,
                view.name,
                view.title,
                partial(draw, view),
                caption(view),
                finding(view),
            )


def left_out(view: View) -> str:
    """Say why a figure cannot be drawn; "" if it can.

    Curves whose runs are missing, as the manifest says, keep no figure from being drawn, unless
    nothing else is left of it.
    """
    protocol, reasons = view.protocol, []
    curves = [curve for curve in CURVES[view.number] if not curve.only_ours]
    absent = list(dict.fromkeys(c.arm for c in curves if not view.arm(c.arm)))
    if absent:
        at = f" with {view.at}" if view.structure else ""
        reasons.append(f"the protocol {protocol.name} does not run {', '.join(absent)}{at}")
    arms = [view.arm(curve.arm) for curve in curves]
    reasons += [
        f"no {curve.measure} of {arm} was measured"
        for curve, arm in zip(curves, arms, strict=True)
        if arm and not view.measured(curve) and arm not in protocol.missing
    ]
    if not reasons and not view.drawn:
        reasons = ["none of its runs has ended"]
    return f"{view.title} is left out: {'; '.join(reasons)}." if reasons else ""


def caption(view: View) -> str:
    """Describe a figure: subject, panels, n, runs that diverged or are missing."""
    protocol = view.protocol
    arms = dict.fromkeys([*(view.arm(curve.arm) for curve in CURVES[view.number])])
    arms = [arm for arm in [*arms, *view.controls.values()] if arm]
    sentences = [
        f"{view.title}. {SUBJECTS[view.number].format(view.at)}: top-1 accuracy during training.",
        f"Ours, {describe_protocol(protocol)}: {describe_n(view.counts)}.",
        *describe_missing(protocol, arms),
        *describe_diverged(protocol, arms, CROSS),
        f"The paper's: read off its figure, over the {PAPER_STEPS[view.number] // 1000}k steps of "
        "its axis; it gives no number of runs. The y axes differ.",
        *([THIN, BELOW] if view.controls else []),
        *([MODE] if any(curve.only_ours for curve in view.drawn) else []),
    ]
    return " ".join(sentences)


# Drawing


@styled
def draw(view: View, stacked: bool = False) -> Figure:
    """Draw ours beside the paper's and, where there are controls, differences below both."""
    protocol, controls = view.protocol, view.controls
    rows = 2 if controls else 1
    if stacked:
        figure = new_figure((3.9, 6.2 * rows - 1.0 * (rows - 1)))
        grid = figure.subplots(2 * rows, 1)
        ours, theirs, *below = grid
    else:
        figure = new_figure((7.0, 3.5 if rows == 1 else 6.0))
        (ours, theirs), *below = figure.subplots(rows, 2, squeeze=False)
        below = list(below[0]) if below else []
    differing = len(set(view.counts)) > 1
    for curve, arm in view.drawn.items():
        n = f" (n = {count(protocol, arm, curve.measure)})" if differing else ""
        values = protocol.values(arm, curve.measure)
        draw_mean(
            ours,
            values,
            protocol.total_steps,
            _look(curve, protocol, arm),
            _label(protocol, curve, arm) + n,
        )
    drawn = [protocol.values(arm, curve.measure) for curve, arm in view.drawn.items()]
    for arm, look in _thin(view):
        draw_mean(ours, protocol.values(arm), protocol.total_steps, look, protocol.labels[arm])
        drawn.append(protocol.values(arm))
    _draw_paper(theirs, view)
    ours.set_title(f"Ours ({protocol.manifest['title']})\n{describe_n(view.counts)}")
    theirs.set_title("The paper (ImageNet, Inception-v3)\nnumber of runs not given")
    ours.set_ylim(late_limits(drawn, protocol.total_steps))
    theirs.set_ylim(30, 80)
    panels = [(ours, protocol.total_steps), (theirs, PAPER_STEPS[view.number])]
    if below:
        _draw_differences(below, view)
        panels += list(zip(below, (protocol.total_steps, PAPER_STEPS[view.number]), strict=True))
    for axes, steps in panels:
        training_axis(axes, steps)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for axes in (ours, theirs):
        axes.set_ylabel("top-1 accuracy, %")
    legend(figure, ours, 1 if stacked else 2)
    return figure


def _look(curve, protocol, arm):
    return Look(COLOURS[protocol.arms[arm]["normalization"]], curve.line, marker=curve.marker)


def _label(protocol, curve, arm):
    evaluation = {
        TRAINING: ", on training images",
        MINIBATCH: ", minibatch statistics",
        TRAINING_MODE: ", in training mode",
    }
    return protocol.labels[arm] + evaluation.get(curve.measure, "")


def _thin(view):
    """Our controls and the i.i.d. arm of batch normalization, which no figure 3 has."""
    if view.number != 3:
        return []
    protocol = view.protocol
    arms = dict.fromkeys(view.controls.values())
    looks = [(arm, Look(COLOURS[protocol.arms[arm]["normalization"]], width=0.7)) for arm in arms]
    iid = next(iter(protocol.find(paper=TWINS["bn"])), None)
    if iid and count(protocol, iid):
        looks.append((iid, Look("#777777", width=0.7)))
    return looks


def _draw_paper(axes, view):
    for curve, arm in view.drawn.items():
        if not curve.only_ours:
            line = view.paper.curve(curve.arm, curve.measure)
            x = line["step"] / PAPER_STEPS[view.number]
            axes.plot(x, line["accuracy_percent"], **_look(curve, view.protocol, arm).of_line)
    if view.number == 3:
        line = view.paper.curve(TWINS["bn"])
        x = line["step"] / PAPER_STEPS[3]
        axes.plot(x, line["accuracy_percent"], color="#777777", linewidth=0.7)


def _draw_differences(below, view):
    protocol, (ours, theirs) = view.protocol, below
    drawn = []
    for curve, arm in view.drawn.items():
        gap = difference_to_control(view, curve)
        if len(gap):
            draw_mean(ours, gap, protocol.total_steps, _look(curve, protocol, arm))
            drawn.append(gap)
        twin = view.paper.curve(TWINS[protocol.arms[arm]["normalization"]])
        line = view.paper.curve(curve.arm, curve.measure)
        if curve.measure in (VALIDATION, MINIBATCH):
            at = np.interp(line["step"], twin["step"], twin["accuracy_percent"])
            x = line["step"] / PAPER_STEPS[3]
            theirs.plot(x, line["accuracy_percent"] - at, **_look(curve, protocol, arm).of_line)
    for axes, name in ((ours, "the control"), (theirs, "i.i.d. minibatches")):
        axes.axhline(0, color="#777777", linewidth=0.7, zorder=0)
        axes.set_title(f"Difference to {name}")
        axes.set_ylabel("points")
    low, high = late_limits(drawn, protocol.total_steps, (-100, 100))
    ours.set_ylim(min(low, -0.5), max(high, 0.5))


# Words


def finding(view: View) -> str:
    """State in one sentence what our runs of a figure show, with n and intervals."""
    parts = {1: _finding_1, 2: _finding_2, 3: _finding_3}[view.number](view)
    return f"{view.title}, {view.protocol.name}: {'; '.join(parts)}."


def _finding_1(view):
    return [_ends(view, "brn-32", "bn-32")]


def _finding_2(view):
    ends = _ends(view, "brn-4", "bn-4")
    protocol, paper = view.protocol, view.paper
    bn, brn = (view.arm(name) for name in ("bn-4", "brn-4"))
    if not (count(protocol, bn) and count(protocol, brn)):
        return [ends]
    target = run_summaries(protocol.values(bn))["final"].mean()
    mean = mean_curve(protocol.values(brn))
    ours = steps_to_reach(mean["step"], mean["mean"], target)
    end = paper.curve("bn-4")["accuracy_percent"].iloc[-1]
    theirs = paper.curve("brn-4")
    theirs = steps_to_reach(theirs["step"], theirs["accuracy_percent"], end)
    reached = "does not reach it" if ours is None else f"reaches it at step {ours:,}"
    return [
        ends,
        f"{bn} ends at {target:.1f} %, and the mean curve of {brn} {reached} of "
        f"{protocol.total_steps:,} (the paper's: {end:.1f} %, step {theirs:,} of "
        f"{PAPER_STEPS[2]:,})",
    ]


def _finding_3(view):
    protocol, bn = view.protocol, view.arm("bn-noniid")
    parts = [
        _ends(view, name, "bn-noniid", measure)
        for name, measure in (
            ("brn-noniid", VALIDATION),
            ("bn-halves", VALIDATION),
            ("bn-noniid", MINIBATCH),
            ("bn-noniid", TRAINING),
        )
    ]
    if not count(protocol, bn):
        return parts
    summaries = run_summaries(protocol.values(bn))
    fall = mean_interval(summaries["maximum"] - summaries["final"])
    parts.append(f"{bn} ends {fall.mean:z.1f} points below its own maximum ({evidence(fall)})")
    for arm, control in view.controls.items():
        parts.append(
            compare(
                _final(protocol, arm), _final(protocol, control), (arm, f"its control {control}")
            )
        )
    return parts


def _final(protocol, arm, measure=VALIDATION):
    return run_summaries(protocol.values(arm, measure))["final"]


def _ends(view, first, second, measure=VALIDATION):
    """Compare where two curves end, paired by seed, beside the same difference in the paper."""
    protocol = view.protocol
    arms = [view.arm(name) for name in (first, second)]
    theirs = [
        view.paper.curve(name, kind)["accuracy_percent"].iloc[-1]
        for name, kind in ((first, measure), (second, VALIDATION))
    ]
    diverged = "".join(
        f", {len(protocol.diverged(arm))} of {arm}'s runs diverged"
        for arm in dict.fromkeys(arms)
        if protocol.diverged(arm)
    )
    return compare(
        _final(protocol, arms[0], measure),
        _final(protocol, arms[1]),
        (name_curve(arms[0], measure), arms[1]),
        f"{diverged}; the paper: {points(theirs[0] - theirs[1])}",
    )
