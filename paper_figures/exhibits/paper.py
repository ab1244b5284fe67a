"""Figures 1 to 3 of the paper, ours beside the paper's.

For every protocol that repeats one of the paper's arms. Figure 3 comes once for each structure of
non-i.i.d. minibatches, and shows below the accuracies what of them is normalization's: differences
to the control, the same images shuffled over the step's minibatches before they are normalized.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.drawing import (
    COLOURS,
    LINES,
    Look,
    draw_mean,
    late_limits,
    legend,
    new_figure,
    styled,
    training_axis,
)
from paper_figures.exhibit import Exhibit, Section
from paper_figures.load import MINIBATCH, TRAINING, TRAINING_MODE, VALIDATION, Paper, Results, Scale
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
PAPER_STEPS = {1: 140_000, 2: 160_000, 3: 140_000}  # the length of each figure's axis
TWINS = {"bn": "bn-32", "brn": "brn-32"}
"""The paper's i.i.d. arm of each normalization."""
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


@dataclass(frozen=True)
class Curve:
    """A curve of the paper's figure: one of its arms, and how it is evaluated.

    `only_ours` marks what the paper does not show.
    """

    arm: str
    measure: str = VALIDATION
    line: str | tuple = "-"
    marker: str = "o"
    only_ours: bool = False


CURVES = {
    1: (Curve("bn-32", marker="."), Curve("brn-32", marker=".")),
    2: (Curve("bn-4", marker="."), Curve("brn-4", marker=".")),
    3: (
        Curve("brn-noniid"),
        Curve("bn-halves", line=LINES[1], marker="s"),
        Curve("bn-noniid", MINIBATCH, LINES[3], "D"),
        Curve("bn-noniid", TRAINING, LINES[2], "^"),
        Curve("bn-noniid", TRAINING_MODE, (0, (3, 1, 1, 1, 1, 1)), "v", only_ours=True),
        Curve("bn-noniid"),
    ),
}


@dataclass(frozen=True)
class View:
    """One figure at one protocol.

    Attributes:
        number: The paper's number of it.
        scale: The protocol's runs.
        paper: The paper's numbers.
        structure: Labels and images of each in a minibatch, for figure 3.
        own: Whether that is the structure of the protocol itself.
    """

    number: int
    scale: Scale
    paper: Paper
    structure: tuple[int, int] | None = None
    own: bool = True

    @property
    def at(self) -> str:
        """The structure in words, such as `16 x 2`; "" without one."""
        return " x ".join(map(str, self.structure)) if self.structure else ""

    @property
    def name(self) -> str:
        """Of its files."""
        return f"figure_{self.number}" + ("" if self.own else f"_{self.at.replace(' ', '')}")

    @property
    def title(self) -> str:
        """Of it."""
        return f"Figure {self.number}" + ("" if self.own else f", {self.at}")

    def arm(self, paper_arm: str) -> str | None:
        """Our arm that repeats one of the paper's."""
        fields = dict(zip(("labels", "images"), self.structure or (), strict=False))
        return next(iter(self.scale.find(paper=paper_arm, **fields)), None)

    def measured(self, curve: Curve) -> str | None:
        """Our arm of a curve, if there are values of it."""
        arm = self.arm(curve.arm)
        return arm if arm and count(self.scale, arm, curve.measure) else None

    @property
    def drawn(self) -> dict[Curve, str]:
        """The curves of which we have values, with our arm of each."""
        curves = {curve: self.measured(curve) for curve in CURVES[self.number]}
        return {curve: arm for curve, arm in curves.items() if arm}

    @property
    def controls(self) -> dict[str, str]:
        """Arms that are drawn and have a control with values -> that control."""
        arms = dict.fromkeys(self.drawn.values())
        controls = {arm: self.scale.arms[arm]["control"] for arm in arms}
        return {arm: c for arm, c in controls.items() if c and count(self.scale, c)}

    @property
    def counts(self) -> list[int]:
        """Seeds of each curve."""
        return [count(self.scale, arm, curve.measure) for curve, arm in self.drawn.items()]


def views(scale: Scale, paper: Paper) -> Iterator[View]:
    """Give the figures of a protocol, figure 3 for each structure that repeats the paper's arms."""
    yield View(1, scale, paper)
    yield View(2, scale, paper)
    own = (scale.settings["labels_per_minibatch"], scale.settings["images_per_label"])
    sampled = {curve.arm for curve in CURVES[3]}
    structures = [
        (about["labels"], about["images"])
        for about in scale.arms.values()
        if about["paper"] in sampled
    ]
    for structure in dict.fromkeys([own, *structures]):
        yield View(3, scale, paper, structure, structure == own)


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the figures of every protocol that repeats an arm of the paper."""
    for scale in results.scales:
        if not any(about["paper"] for about in scale.arms.values()):
            continue
        section = Section.of(scale)
        for view in views(scale, results.paper):
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
    scale, reasons = view.scale, []
    curves = [curve for curve in CURVES[view.number] if not curve.only_ours]
    absent = list(dict.fromkeys(c.arm for c in curves if not view.arm(c.arm)))
    if absent:
        at = f" with {view.at}" if view.structure else ""
        reasons.append(f"the protocol {scale.name} does not run {', '.join(absent)}{at}")
    arms = [view.arm(curve.arm) for curve in curves]
    reasons += [
        f"no {curve.measure} of {arm} was measured"
        for curve, arm in zip(curves, arms, strict=True)
        if arm and not view.measured(curve) and arm not in scale.missing
    ]
    if not reasons and not view.drawn:
        reasons = ["none of its runs has ended"]
    return f"{view.title} is left out: {'; '.join(reasons)}." if reasons else ""


def caption(view: View) -> str:
    """Describe a figure: subject, panels, n, runs that diverged or are missing."""
    scale = view.scale
    arms = dict.fromkeys([*(view.arm(curve.arm) for curve in CURVES[view.number])])
    arms = [arm for arm in [*arms, *view.controls.values()] if arm]
    sentences = [
        f"{view.title}. {SUBJECTS[view.number].format(view.at)}: top-1 accuracy during training.",
        f"Ours, {describe_protocol(scale)}: {describe_n(view.counts)}.",
        *describe_missing(scale, arms),
        *describe_diverged(scale, arms, CROSS),
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
    scale, controls = view.scale, view.controls
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
        n = f" (n = {count(scale, arm, curve.measure)})" if differing else ""
        values = scale.values(arm, curve.measure)
        draw_mean(
            ours, values, scale.total_steps, _look(curve, scale, arm), _label(scale, curve, arm) + n
        )
    drawn = [scale.values(arm, curve.measure) for curve, arm in view.drawn.items()]
    for arm, look in _thin(view):
        draw_mean(ours, scale.values(arm), scale.total_steps, look, scale.labels[arm])
        drawn.append(scale.values(arm))
    _draw_paper(theirs, view)
    ours.set_title(f"Ours ({scale.manifest['title']})\n{describe_n(view.counts)}")
    theirs.set_title("The paper (ImageNet, Inception-v3)\nnumber of runs not given")
    ours.set_ylim(late_limits(drawn, scale.total_steps))
    theirs.set_ylim(30, 80)
    panels = [(ours, scale.total_steps), (theirs, PAPER_STEPS[view.number])]
    if below:
        _draw_differences(below, view)
        panels += list(zip(below, (scale.total_steps, PAPER_STEPS[view.number]), strict=True))
    for axes, steps in panels:
        training_axis(axes, steps)
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    for axes in (ours, theirs):
        axes.set_ylabel("top-1 accuracy, %")
    legend(figure, ours, 1 if stacked else 2)
    return figure


def _look(curve, scale, arm):
    return Look(COLOURS[scale.arms[arm]["normalization"]], curve.line, marker=curve.marker)


def _label(scale, curve, arm):
    evaluation = {
        TRAINING: ", on training images",
        MINIBATCH: ", minibatch statistics",
        TRAINING_MODE: ", in training mode",
    }
    return scale.labels[arm] + evaluation.get(curve.measure, "")


def _thin(view):
    """Our controls and the i.i.d. arm of batch normalization, which no figure 3 has."""
    if view.number != 3:
        return []
    scale = view.scale
    arms = dict.fromkeys(view.controls.values())
    looks = [(arm, Look(COLOURS[scale.arms[arm]["normalization"]], width=0.7)) for arm in arms]
    iid = next(iter(scale.find(paper=TWINS["bn"])), None)
    if iid and count(scale, iid):
        looks.append((iid, Look("#777777", width=0.7)))
    return looks


def _draw_paper(axes, view):
    for curve, arm in view.drawn.items():
        if not curve.only_ours:
            line = view.paper.curve(curve.arm, curve.measure)
            x = line["step"] / PAPER_STEPS[view.number]
            axes.plot(x, line["accuracy_percent"], **_look(curve, view.scale, arm).of_line)
    if view.number == 3:
        line = view.paper.curve(TWINS["bn"])
        x = line["step"] / PAPER_STEPS[3]
        axes.plot(x, line["accuracy_percent"], color="#777777", linewidth=0.7)


def difference_to_control(view: View, curve: Curve) -> pd.DataFrame:
    """How far a curve is above that of its control, by seed and step, as of `Scale.values`."""
    scale, arm = view.scale, view.arm(curve.arm)
    control = view.controls.get(arm)
    measure = VALIDATION if curve.measure == MINIBATCH else curve.measure
    values = scale.values(arm, curve.measure)
    if control is None:
        return values[:0]
    theirs = scale.values(control, measure).set_index(["seed", "step"])["value"]
    of = pd.MultiIndex.from_frame(values[["seed", "step"]])
    gap = values["value"] - theirs.reindex(of).to_numpy()
    return values.assign(value=gap).dropna(subset="value")


def _draw_differences(below, view):
    scale, (ours, theirs) = view.scale, below
    drawn = []
    for curve, arm in view.drawn.items():
        gap = difference_to_control(view, curve)
        if len(gap):
            draw_mean(ours, gap, scale.total_steps, _look(curve, scale, arm))
            drawn.append(gap)
        twin = view.paper.curve(TWINS[scale.arms[arm]["normalization"]])
        line = view.paper.curve(curve.arm, curve.measure)
        if curve.measure in (VALIDATION, MINIBATCH):
            at = np.interp(line["step"], twin["step"], twin["accuracy_percent"])
            x = line["step"] / PAPER_STEPS[3]
            theirs.plot(x, line["accuracy_percent"] - at, **_look(curve, scale, arm).of_line)
    for axes, name in ((ours, "the control"), (theirs, "i.i.d. minibatches")):
        axes.axhline(0, color="#777777", linewidth=0.7, zorder=0)
        axes.set_title(f"Difference to {name}")
        axes.set_ylabel("points")
    low, high = late_limits(drawn, scale.total_steps, (-100, 100))
    ours.set_ylim(min(low, -0.5), max(high, 0.5))


# Words


def finding(view: View) -> str:
    """State in one sentence what our runs of a figure show, with n and intervals."""
    parts = {1: _finding_1, 2: _finding_2, 3: _finding_3}[view.number](view)
    return f"{view.title}, {view.scale.name}: {'; '.join(parts)}."


def _finding_1(view):
    return [_ends(view, "brn-32", "bn-32")]


def _finding_2(view):
    ends = _ends(view, "brn-4", "bn-4")
    scale, paper = view.scale, view.paper
    bn, brn = (view.arm(name) for name in ("bn-4", "brn-4"))
    if not (count(scale, bn) and count(scale, brn)):
        return [ends]
    target = run_summaries(scale.values(bn))["final"].mean()
    mean = mean_curve(scale.values(brn))
    ours = steps_to_reach(mean["step"], mean["mean"], target)
    end = paper.curve("bn-4")["accuracy_percent"].iloc[-1]
    theirs = paper.curve("brn-4")
    theirs = steps_to_reach(theirs["step"], theirs["accuracy_percent"], end)
    reached = "does not reach it" if ours is None else f"reaches it at step {ours:,}"
    return [
        ends,
        f"{bn} ends at {target:.1f} %, and the mean curve of {brn} {reached} of "
        f"{scale.total_steps:,} (the paper's: {end:.1f} %, step {theirs:,} of {PAPER_STEPS[2]:,})",
    ]


def _finding_3(view):
    scale, bn = view.scale, view.arm("bn-noniid")
    parts = [
        _ends(view, name, "bn-noniid", measure)
        for name, measure in (
            ("brn-noniid", VALIDATION),
            ("bn-halves", VALIDATION),
            ("bn-noniid", MINIBATCH),
            ("bn-noniid", TRAINING),
        )
    ]
    if not count(scale, bn):
        return parts
    summaries = run_summaries(scale.values(bn))
    fall = mean_interval(summaries["maximum"] - summaries["final"])
    parts.append(f"{bn} ends {fall.mean:z.1f} points below its own maximum ({evidence(fall)})")
    for arm, control in view.controls.items():
        parts.append(
            compare(_final(scale, arm), _final(scale, control), (arm, f"its control {control}"))
        )
    return parts


def _final(scale, arm, measure=VALIDATION):
    return run_summaries(scale.values(arm, measure))["final"]


def _ends(view, first, second, measure=VALIDATION):
    """Compare where two curves end, paired by seed, beside the same difference in the paper."""
    scale = view.scale
    arms = [view.arm(name) for name in (first, second)]
    theirs = [
        view.paper.curve(name, kind)["accuracy_percent"].iloc[-1]
        for name, kind in ((first, measure), (second, VALIDATION))
    ]
    diverged = "".join(
        f", {len(scale.diverged(arm))} of {arm}'s runs diverged"
        for arm in dict.fromkeys(arms)
        if scale.diverged(arm)
    )
    return compare(
        _final(scale, arms[0], measure),
        _final(scale, arms[1]),
        (name_curve(arms[0], measure), arms[1]),
        f"{diverged}; the paper: {points(theirs[0] - theirs[1])}",
    )
