"""How many r and d the bounds clip: in the runs of a protocol, and in one run that was watched.

The watched run is read from `monitor-<run id>.csv`, a row for each layer and step, and what looking
cost from `monitor-cost-<backend>.csv`.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures.drawing import (
    COLOURS,
    LINES,
    Look,
    draw_mean,
    legend,
    new_figure,
    show_steps,
    styled,
    training_axis,
)
from paper_figures.exhibit import Exhibit, Section
from paper_figures.exhibits.bounds import looks
from paper_figures.load import Protocol, Results
from paper_figures.statistics import mean_interval, run_summaries
from paper_figures.words import (
    CROSS,
    count,
    describe_diverged,
    describe_missing,
    describe_n,
    describe_protocol,
)

PLACE = 6
CLIPPED = ("r_clipped_percent", "d_clipped_percent")
LAYERS_OF = "brn-32"
"""The paper's arm whose layers are shown one by one, that of claim C10."""
WATCHED = "Clipping in one run"


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the figure of every protocol with the paper's arms of BRN, and the watched run."""
    for protocol in results.protocols:
        if arms := [
            arm for arm in protocol.find(normalization="brn") if protocol.arms[arm]["paper"]
        ]:
            yield exhibit(protocol, arms)
    rows = find_watched(results.folder)
    if rows is not None:
        section = Section("monitor", "One run, watched", page="watching")
        drawn = partial(draw_watched, rows)
        cost = describe_cost(results.folder)
        yield Exhibit(section, "clipped", WATCHED, drawn, describe_watched(rows), cost)


def exhibit(protocol: Protocol, arms: list[str]) -> Exhibit:
    """Make the exhibit of a protocol."""
    section, title = Section.of(protocol), "Clipping"
    arms = [arm for arm in arms if count(protocol, arm, CLIPPED[0]) or arm in protocol.missing]
    if not any(count(protocol, arm, CLIPPED[0]) for arm in arms):
        reason = "Clipping is left out: no run in which it was measured has ended."
        return Exhibit(section, "clipping", title, left_out=reason)
    caption = [
        f"Clipping. How many r and d are clipped over training. In {describe_protocol(protocol)}: "
        f"{_n(protocol, arms)}.",
        *describe_missing(protocol, arms),
        f"Below, each layer of {LAYERS_OF}, in the order of the calls, the mean over the seeds.",
        *describe_diverged(protocol, arms, CROSS),
    ]
    parts = [
        f"at the end, {arm} clips {ends[0].mean:.2f} % of r and {ends[1].mean:.2f} % of d "
        f"(n = {ends[0].n})"
        for arm in arms
        for ends in [[mean_interval(_last(protocol, arm, measure)) for measure in CLIPPED]]
        if ends[0].n
    ]
    return Exhibit(
        section,
        "clipping",
        title,
        partial(draw, protocol, arms),
        " ".join(caption),
        f"Clipping, {protocol.name}: {'; '.join(parts)}.",
    )


def _n(protocol, arms):
    return describe_n(count(protocol, arm, CLIPPED[0]) for arm in arms)


def _last(protocol, arm, measure):
    return run_summaries(protocol.values(arm, measure))["final"]


@styled
def draw(protocol: Protocol, arms: list[str], stacked: bool = False) -> Figure:
    """How many r and d are clipped over training: overall, and in each layer of one arm."""
    figure = new_figure((3.9, 11.0) if stacked else (7.0, 6.4))
    grid = figure.subplots(4, 1) if stacked else figure.subplots(2, 2).T.ravel()
    layers_of = next(iter(protocol.find(paper=LAYERS_OF)), None)
    for measure, (above, below) in zip(CLIPPED, (grid[:2], grid[2:]), strict=True):
        name = measure[0]
        for arm, look in looks(arms).items():
            if count(protocol, arm, measure):
                label = protocol.labels[arm] if name == "r" else ""
                draw_mean(above, protocol.values(arm, measure), protocol.total_steps, look, label)
        above.set_title(f"All layers: {name} clipped")
        above.set_ylabel(f"{name} clipped, %")
        above.set_ylim(bottom=0)
        training_axis(above, protocol.total_steps)
        _draw_layers(figure, below, protocol, layers_of, measure)
    figure.suptitle(f"{protocol.manifest['title']}, {_n(protocol, arms)}", fontsize=8.5, wrap=True)
    legend(figure, grid[0], 1 if stacked else 2)
    return figure


def _draw_layers(figure, axes, protocol, arm, measure):
    axes.set_title(f"{LAYERS_OF}, each layer: {measure[0]} clipped, %")
    axes.set_ylabel("layer, from the image to the logits")
    axes.set_xlabel("training step")
    axes.grid(False)
    layers = protocol.places(arm, measure, "layer") if arm else {}
    if not layers:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        return
    means = {
        layer: layers[layer].groupby("step")["value"].mean() for layer in sorted(layers, key=int)
    }
    table = pd.DataFrame(means).T
    highest = max(np.nanmax(table.to_numpy()), 0.1)
    shown = axes.pcolormesh(table.to_numpy(), cmap="cividis", vmin=0, vmax=highest)
    figure.colorbar(shown, ax=axes)
    places = np.arange(table.shape[1])
    places = places[len(places) % 2 ^ 1 :: 2] if len(places) > 6 else places
    axes.set_xticks(places + 0.5, [show_steps(table.columns[i]) for i in places])
    ticks = np.arange(0, len(table), max(len(table) // 8, 1))
    axes.set_yticks(ticks + 0.5, ticks + 1)


# One run


def find_watched(results: Path) -> pd.DataFrame | None:
    """Returns the watched run of a folder of results, the first if there are several, or `None`."""
    paths = sorted(path for path in results.glob("monitor-*.csv") if "-cost-" not in path.name)
    return pd.read_csv(paths[0]) if paths else None


@styled
def draw_watched(rows: pd.DataFrame, stacked: bool = False) -> Figure:
    """Draws r between its bounds, and the fractions of r and of d that are clipped.

    Args:
        rows: of one run, with the columns `run, step, layer, r_smallest, r_largest, r_max,
            r_clipped, d_clipped`.
        stacked: whether panels stand one above the other.
    """
    drawn = new_figure((3.9, 5.4) if stacked else (7.0, 2.9))
    corrections, clipped = drawn.subplots(2, 1) if stacked else drawn.subplots(1, 2)
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
    for name, look in (("r", Look(COLOURS["brn"])), ("d", Look(COLOURS["bn"], LINES[2]))):
        fraction = 100 * steps[f"{name}_clipped"].median()
        clipped.plot(at, fraction, **look.of_line, label=f"{name}, median layer")
        most = 100 * steps[f"{name}_clipped"].max()
        clipped.plot(at, most, **{**look.of_line, "linewidth": 0.6}, label=f"{name}, worst layer")
    clipped.set_ylabel("clipped, %")
    clipped.set_ylim(-2, 102)
    for axes in (corrections, clipped):
        axes.set_xlabel("training step")
        axes.legend(fontsize=7)
    layers = rows["layer"].nunique()
    drawn.suptitle(f"{rows['run'].iloc[0]}: {layers} layers, n = 1 run", fontsize=8.5)
    return drawn


def describe_watched(rows: pd.DataFrame) -> str:
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


def describe_cost(results: Path) -> str:
    """States what looking cost, on each backend on which that was measured; "" if on none."""
    paths = sorted(results.glob("monitor-cost-*.csv"))
    return " ".join(
        f"In the run {row.run} on {row.backend}, a step takes {row.step_ms:.0f} ms, and one with a "
        f"look {row.probed_step_ms:.0f} ms (medians of {row.steps} steps, {row.probes} of them "
        f"with a look; {row.device}, {row.cores} cores). With a look every {row.every} steps, the "
        f"default, that adds {row.cost_percent:.1f} % to the time of training."
        for path in paths
        for row in pd.read_csv(path).itertuples()
    )
