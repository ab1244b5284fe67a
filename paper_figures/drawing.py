"""What all figures share: their style, the mean of runs over training, and how they are written.

Drawn on `matplotlib.figure.Figure` objects with the Agg, PDF and SVG backends, without pyplot:
no display, no state, and the same bytes from the same results.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paper_figures.statistics import mean_curve

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
}
styled = style.context(["default", STYLE])


LINES = ("-", (0, (7, 1.5, 1.5, 1.5)), (0, (4, 2)), (0, (1, 1.2)))
"""Styles to tell lines of one colour apart: full, dash-dotted, dashed, dotted."""


@dataclass(frozen=True)
class Look:
    """How a line is drawn."""

    colour: str
    line: str | tuple = "-"
    width: float = 1.5
    marker: str = "."

    @property
    def of_line(self) -> dict:
        """What matplotlib needs to know of the line itself."""
        return {"color": self.colour, "linestyle": self.line, "linewidth": self.width}


@styled
def render(figure: Figure, kind: str) -> bytes:
    """Write a figure as "png", "svg" or "pdf", without dates or versions in the file.

    The places of panels are found once, at the first call, and are the same in every format.
    """
    metadata = {
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
        "svg": {"Creator": None, "Date": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata[kind])
    with rc_context({"figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
    return buffer.getvalue()


@styled
def new_figure(size: tuple[float, float]) -> Figure:
    """Make an empty figure of a size in inches, in the style of all figures."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure, axes: Axes, columns: int = 1) -> None:
    """Put the legend of a panel below all of them."""
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, fontsize=8)


def training_axis(axes: Axes, steps: int) -> None:
    """Let x be the fraction of training done, and name the steps."""
    axes.set_xlim(0, 1)
    axes.set_xticks(TICKS, [f"{tick:g}\n{show_steps(tick * steps)}" for tick in TICKS])
    axes.set_xlabel("fraction of training done, and training step")


def draw_mean(axes: Axes, values: pd.DataFrame, steps: int, look: Look, label: str = "") -> None:
    """Draw the mean over seeds with its interval, and diverged runs up to their end.

    Args:
        axes: Where to draw, over the fraction of training done.
        values: The columns `seed, status, step, value`.
        steps: Of a whole run.
        look: Of the line.
        label: For the legend; "" for none.
    """
    mean = mean_curve(values)
    fraction = mean["step"] / steps
    axes.plot(
        fraction,
        mean["mean"],
        **look.of_line,
        marker=look.marker if len(mean) < 10 else None,
        markersize=(4 if look.marker == "." else 2.5) * look.width,
        label=label,
    )
    if (mean["n"] > 1).any():
        axes.fill_between(fraction, mean["low"], mean["high"], color=look.colour, alpha=0.1, lw=0)
    for _, run in values[values["status"] == "diverged"].groupby("seed"):
        ended = run["step"] / steps
        axes.plot(ended, run["value"], color=look.colour, linewidth=0.7)
        end = (ended.iloc[-1:], run["value"].iloc[-1:])
        axes.plot(*end, "X", color=look.colour, markersize=8, markeredgecolor="white", zorder=3)


def late_limits(
    curves: Sequence[pd.DataFrame], steps: int, between: tuple[float, float] = (0, 100.5)
) -> tuple[float, float]:
    """Limits of the y axis that show what happens after the first tenth of training.

    Of the intervals they show those of the second half. The paper's axis starts late, too: at
    30 %. The ends of diverged runs are shown however early they come.

    Args:
        curves: The columns `seed, status, step, value` of each.
        steps: Of a whole run.
        between: What the limits never go beyond.
    """
    values = pd.concat([rows.assign(curve=number) for number, rows in enumerate(curves)])
    diverged = values[values["status"] == "diverged"]
    ends = diverged.groupby(["curve", "seed"])["value"].last()
    late = values.loc[values["step"] >= steps / 10, "value"]
    bands = pd.concat([mean_curve(rows) for rows in curves])
    bands = bands.loc[bands["step"] >= steps / 2, ["low", "high"]]
    shown = pd.concat([late if len(late) else values["value"], ends, bands.stack()])
    margin = max(0.05 * (shown.max() - shown.min()), 0.5)
    return max(shown.min() - margin, between[0]), min(shown.max() + margin, between[1])


def show_steps(steps: float) -> str:
    """Write a number of steps briefly: `1,200`, `130k`."""
    return f"{steps / 1000:g}k" if steps >= 10_000 and steps % 1000 == 0 else f"{steps:,.0f}"
