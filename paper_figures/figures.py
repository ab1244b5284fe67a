"""Figures 1 to 3 of the paper, ours beside the paper's.

Drawn on `matplotlib.figure.Figure` objects with the Agg, PDF and SVG backends, without pyplot:
no display, no state, and the same bytes from the same results.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.load import MINIBATCH, OWN, TRAINING, VALIDATION, Paper, Scale
from paper_figures.statistics import mean_curve

FORMATS = ("pdf", "svg", "png")
PAPER_STEPS = {1: 140_000, 2: 160_000, 3: 140_000}  # the length of each figure's axis
# Of Okabe and Ito: vermillion, blue, green.
COLOURS = {"bn": "#D55E00", "brn": "#0072B2", "gn": "#009E73"}
TICKS = (0, 0.25, 0.5, 0.75, 1)
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.hashsalt": "batch-renormalization",
    "pdf.fonttype": 42,
}
styled = style.context(["default", STYLE])


@dataclass(frozen=True)
class Curve:
    """One curve of a figure: an arm, how it is evaluated, and how its line is drawn.

    `structured` tells whether there is one for each structure of non-i.i.d. minibatches.
    """

    arm: str
    measure: str = VALIDATION
    line: str | tuple = "-"
    width: float = 1.5
    hue: str | None = None
    marker: str = "."
    structured: bool = True

    @property
    def colour(self) -> str:
        """Its hue, or else the colour of the arm's normalization, the same in all figures."""
        return self.hue or COLOURS[self.arm.split("-")[0]]

    def of(self, structure: str) -> "Curve":
        """The same curve with minibatches of another structure, one of `Scale.structures`."""
        return replace(self, arm=self.arm + structure) if self.structured else self

    def label(self, labels: dict[str, str]) -> str:
        """The arm's label, with the evaluation where it is not the plain one."""
        evaluation = {TRAINING: ", on training images", MINIBATCH: ", minibatch statistics"}
        return labels[self.arm] + evaluation.get(self.measure, "")


CURVES = {
    1: (Curve("bn-32"), Curve("brn-32")),
    2: (Curve("bn-4"), Curve("brn-4")),
    3: (
        Curve("brn-noniid", marker="o"),
        Curve("bn-halves", line=(0, (7, 1.5, 1.5, 1.5)), marker="s"),
        Curve("bn-noniid", MINIBATCH, line=(0, (1, 1.2)), marker="D"),
        Curve("bn-noniid", TRAINING, line=(0, (4, 2)), marker="^"),
        Curve("bn-noniid", marker="o"),
    ),
}

CONTROLS = {
    3: (
        Curve("brn-shuffled", width=0.7),
        Curve("bn-shuffled", width=0.7),
        Curve("bn-32", width=0.7, hue="#777777", structured=False),
    )
}
"""Thin lines of ours, where a scale has them; the paper's figure has no such curves."""


def figure_1(scale: Scale, paper: Paper, stacked: bool = False) -> Figure:
    """Batch Norm and Batch Renorm on i.i.d. minibatches of 32 (section 4.1)."""
    return _draw(1, scale, paper, stacked)


def figure_2(scale: Scale, paper: Paper, stacked: bool = False) -> Figure:
    """Batch Norm and Batch Renorm in microbatches of 4 (section 4.2)."""
    return _draw(2, scale, paper, stacked)


def figure_3(scale: Scale, paper: Paper, stacked: bool = False, structure: str = OWN) -> Figure:
    """Non-i.i.d. minibatches: three arms, one of them evaluated in three ways (section 4.3)."""
    return _draw(3, scale, paper, stacked, structure)


def drawn_curves(number: int, scale: Scale, structure: str = OWN) -> list[Curve]:
    """The curves of a figure, the paper's and then our controls, of which we have values."""
    curves = [curve.of(structure) for curve in (*CURVES[number], *CONTROLS.get(number, ()))]
    return [curve for curve in curves if not scale.values(curve.arm, curve.measure).empty]


def describe_n(number: int, scale: Scale, structure: str = OWN) -> str:
    """Say how many seeds the curves of a figure are the mean of, and what the band is."""
    counts = [_count(scale, curve) for curve in drawn_curves(number, scale, structure)]
    if max(counts) == 1:
        return "n = 1, a single seed: no interval"
    fewest = f"{min(counts)} to " if min(counts) < max(counts) else ""
    return f"mean of n = {fewest}{max(counts)} seeds, band: 95 % t interval"


FIGURES = {1: figure_1, 2: figure_2, 3: figure_3}


@styled
def render(figure: Figure, kind: str) -> bytes:
    """Write a figure as "pdf", "svg" or "png", without dates or versions in the file."""
    metadata = {
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
        "svg": {"Creator": None, "Date": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata[kind])
    return buffer.getvalue()


@styled
def new_figure(size: tuple[float, float]) -> Figure:
    """Make an empty figure of a size in inches, in the style of all figures."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


@styled
def _draw(number, scale, paper, stacked, structure=OWN):
    figure = new_figure((3.9, 6.2) if stacked else (7.0, 3.5))
    ours, theirs = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
    curves = drawn_curves(number, scale, structure)
    differing = len({_count(scale, curve) for curve in curves}) > 1
    for curve in curves:
        n = f" (n = {_count(scale, curve)})" if differing else ""
        draw_mean(ours, scale, curve, curve.label(scale.labels) + n)
    for curve in CURVES[number]:
        points = paper.curve(curve.arm, curve.measure)
        theirs.plot(
            points["step"] / PAPER_STEPS[number],
            points["accuracy_percent"],
            color=curve.colour,
            linestyle=curve.line,
        )
    ours.set_title(f"Ours ({scale.manifest['title']})\n{describe_n(number, scale, structure)}")
    theirs.set_title("The paper (ImageNet, Inception-v3)\nnumber of runs not given")
    ours.set_ylim(late_limits(scale, curves))
    theirs.set_ylim(30, 80)
    for axes, steps in ((ours, scale.total_steps), (theirs, PAPER_STEPS[number])):
        training_axis(axes, steps)
        axes.set_ylabel("top-1 accuracy, %")
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    columns = 1 if stacked else 2
    figure.legend(
        *ours.get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8
    )
    return figure


def training_axis(axes: Axes, steps: int) -> None:
    """Let x be the fraction of training done, and name the steps."""
    axes.set_xlim(0, 1)
    axes.set_xticks(TICKS, [f"{tick:g}\n{show_steps(tick * steps)}" for tick in TICKS])
    axes.set_xlabel("fraction of training done, and training step")


def draw_mean(axes: Axes, scale: Scale, curve: Curve, label: str) -> None:
    """Draw the mean over seeds with its interval, and diverged runs up to their end.

    Args:
        axes: Where to draw, over the fraction of training done.
        scale: The runs.
        curve: Which of them, and the look of the line.
        label: For the legend.
    """
    values = scale.values(curve.arm, curve.measure)
    mean = mean_curve(values)
    fraction = mean["step"] / scale.total_steps
    axes.plot(
        fraction,
        mean["mean"],
        color=curve.colour,
        linestyle=curve.line,
        linewidth=curve.width,
        marker=curve.marker if len(mean) < 10 else None,
        markersize=(4 if curve.marker == "." else 2.5) * curve.width,
        label=label,
    )
    if (mean["n"] > 1).any():
        axes.fill_between(fraction, mean["low"], mean["high"], color=curve.colour, alpha=0.1, lw=0)
    for _, run in values[values["status"] == "diverged"].groupby("seed"):
        ended = run["step"] / scale.total_steps
        axes.plot(ended, run["value"], color=curve.colour, linewidth=0.7)
        end = (ended.iloc[-1:], run["value"].iloc[-1:])
        axes.plot(*end, "X", color=curve.colour, markersize=8, markeredgecolor="white", zorder=3)


def _count(scale, curve):
    return scale.values(curve.arm, curve.measure)["seed"].nunique()


def late_limits(scale: Scale, curves: Sequence[Curve]) -> tuple[float, float]:
    """Limits of the y axis that show what happens after the first tenth of training.

    Of the intervals they show those of the second half. The paper's axis starts late, too: at
    30 %. The ends of diverged runs are shown however early they come.
    """
    values = pd.concat(
        scale.values(curve.arm, curve.measure).assign(curve=number)
        for number, curve in enumerate(curves)
    )
    diverged = values[values["status"] == "diverged"]
    ends = diverged.groupby(["curve", "seed"])["value"].last()
    late = values.loc[values["step"] >= scale.total_steps / 10, "value"]
    bands = values.groupby("curve").apply(mean_curve, include_groups=False)
    bands = bands.loc[bands["step"] >= scale.total_steps / 2, ["low", "high"]]
    shown = pd.concat([late if len(late) else values["value"], ends, bands.stack()])
    margin = max(0.05 * (shown.max() - shown.min()), 0.5)
    return max(shown.min() - margin, 0), min(shown.max() + margin, 100.5)


def show_steps(steps: float) -> str:
    """Write a number of steps briefly: `1,200`, `130k`."""
    return f"{steps / 1000:g}k" if steps >= 10_000 and steps % 1000 == 0 else f"{steps:,.0f}"
