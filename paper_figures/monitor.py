"""r and d of one training run, as the monitor saw them.

Reads `monitor-<run id>.csv`, which `python -m experiments monitor` writes: a row for each layer and
step, with the quantities of `brn.callbacks.RenormMonitor`.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from paper_figures.figures import COLOURS, new_figure, styled

COLUMNS = ("run", "step", "layer", "r_smallest", "r_largest", "r_max", "r_clipped", "d_clipped")


def find(results: Path) -> pd.DataFrame | None:
    """Returns the watched run of a folder of results, the first if there are several, or `None`."""
    paths = sorted(path for path in results.glob("monitor-*.csv") if "-cost-" not in path.name)
    return pd.read_csv(paths[0]) if paths else None


@styled
def figure(rows: pd.DataFrame) -> Figure:
    """Draws r between its bounds, and the fractions of r and of d that are clipped.

    Args:
        rows: of one run, with the columns `COLUMNS`.
    """
    drawn = new_figure((7.0, 2.9))
    corrections, clipped = drawn.subplots(1, 2)
    steps = rows.groupby("step")
    at, bound = list(steps.groups), steps["r_max"].first()
    corrections.fill_between(
        at,
        steps["r_smallest"].min(),
        steps["r_largest"].max(),
        color=COLOURS["brn"],
        alpha=0.25,
        lw=0,
        label="r, all layers, channels and groups",
    )
    corrections.plot(at, bound, color="black", linewidth=1, label="r_max, 1 / r_max")
    corrections.plot(at, 1 / bound, color="black", linewidth=1)
    corrections.set_yscale("log")
    corrections.set_yticks([1 / 3, 0.5, 1, 2, 3], ["1/3", "1/2", "1", "2", "3"])
    corrections.minorticks_off()
    corrections.set_ylabel("r")
    for name, colour, line in (("r", COLOURS["brn"], "-"), ("d", COLOURS["bn"], (0, (4, 2)))):
        fraction = 100 * steps[f"{name}_clipped"].median()
        clipped.plot(at, fraction, color=colour, linestyle=line, label=f"{name}, median layer")
        most = 100 * steps[f"{name}_clipped"].max()
        clipped.plot(
            at, most, color=colour, linestyle=line, linewidth=0.6, label=f"{name}, worst layer"
        )
    clipped.set_ylabel("clipped, %")
    clipped.set_ylim(-2, 102)
    for axes in (corrections, clipped):
        axes.set_xlabel("training step")
        axes.legend(fontsize=7)
    layers = rows["layer"].nunique()
    drawn.suptitle(f"{rows['run'].iloc[0]}: {layers} layers, n = 1 run", fontsize=8.5)
    return drawn


def caption(rows: pd.DataFrame) -> str:
    """Describes the figure, with what it shows at the end of the run."""
    last = rows[rows["step"] == rows["step"].max()]
    every = rows["step"].drop_duplicates().diff().median()
    return (
        f"What the bounds clip in one run, {rows['run'].iloc[0]}: a new minibatch is looked at "
        f"every {every:.0f} steps, in its microbatches. While "
        "the bounds hold at r_max = 1 and d_max = 0, everything is clipped: that is batch "
        f"normalization. At the end (r_max = {last['r_max'].max():g}) "
        f"{100 * last['r_clipped'].mean():.1f} % of r and {100 * last['d_clipped'].mean():.1f} % "
        "of d are clipped, the mean of all layers. One run, one seed."
    )
