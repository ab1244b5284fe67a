"""The layers' speed: what the benchmark measured, as a figure and tables.

Reads `benchmark-<backend>.csv`, `benchmark-<backend>-ratios.csv` and
`benchmark-<backend>-environment.json`, which `python -m experiments benchmark` writes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from paper_figures.drawing import COLOURS, LINES, Look, legend, new_figure, styled
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import Results, ResultsError

PLACE = 8
_ENVIRONMENT = "-environment.json"
LAYERS = {
    "brn": ("BRN", Look(COLOURS["brn"])),
    "bn": ("BN", Look(COLOURS["bn"])),
    "Keras renorm": ("Keras, renorm", Look(COLOURS["brn"], LINES[2])),
    "Keras bn": ("Keras, BN", Look(COLOURS["bn"], LINES[2])),
}
GROWTH = {
    "batch": ("{}x16x16x64", "batch size, of 16x16x64 activations"),
    "channels": ("32x8x8x{}", "channels, of 32x8x8 activations each"),
}
"""What grows -> the shapes, with the place of the number that does, and the label of its axis."""
TINY = "2x4"
"""The shape on which a layer has next to nothing to compute."""
CAPTION = (
    "Time of one forward and backward pass of a layer as the batch and the number of channels "
    "grow: medians, with the quartiles as bands. Solid: ours. Dashed: Keras's. On TensorFlow "
    "without XLA, on JAX under jit."
)
NOTE = (
    "Ratios of times, ours / another layer's, so that less is better; of the input pipeline, "
    "images a second it makes / training consumes, so that more is better. All layers take turns "
    "in one process, a ratio is taken in each turn, and the median is given with the quartiles. "
    "Where a backend has several modes (TensorFlow: without and with XLA), each side runs in its "
    "faster one."
)


@dataclass(frozen=True)
class Speed:
    """All benchmarks of a folder, each table with a column `backend`.

    Attributes:
        times: `mode, shape, what, median_ms, q25_ms, q75_ms, rounds`.
        ratios: `name, shape, ratio, q25, q75, bar, met`.
        environments: one line for each backend.
    """

    times: pd.DataFrame
    ratios: pd.DataFrame
    environments: list[str]


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the figure and the tables of the benchmarks, if there are any."""
    speed = load_speed(results.folder)
    if speed is None:
        return
    section = Section(
        "speed",
        "Speed of the layers",
        introduction=NOTE,
        environment=tuple(speed.environments),
        page="speed",
    )
    tables = {"summary": summarize(speed), "ratios": show_ratios(speed)}
    tables |= {"growth": show_growth(speed), "parts": show_parts(speed)}
    yield Exhibit(
        section,
        "growth",
        "How the time of a pass grows",
        partial(draw_growth, speed),
        CAPTION,
        tables={name: (Part(table=table),) for name, table in tables.items()},
    )


def load_speed(results: Path) -> Speed | None:
    """Read the benchmarks of a folder of results; None if there is none.

    Raises:
        ResultsError: If a benchmark lacks one of its files.
    """
    names = sorted(path.name for path in results.glob(f"benchmark-*{_ENVIRONMENT}"))
    if not names:
        return None
    stems = [results / name.removesuffix(_ENVIRONMENT) for name in names]
    paths = {kind: [Path(f"{stem}{kind}") for stem in stems] for kind in (".csv", "-ratios.csv")}
    missing = [str(path) for files in paths.values() for path in files if not path.exists()]
    if missing:
        raise ResultsError(
            f"Expected a file of times and one of ratios beside {', '.join(names)}. "
            f"Received: none at {', '.join(missing)}. Run `make benchmark`."
        )
    times, ratios = (
        pd.concat([pd.read_csv(path) for path in files], ignore_index=True)
        for files in paths.values()
    )
    return Speed(times, ratios, [_describe(results / name) for name in names])


def _describe(path):
    made = json.loads(path.read_text())
    return (
        f"{made['backend']} {made['backend_version']}, Keras {made['keras']}: {made['device']}, "
        f"{made['cores']} cores, commit {str(made['commit'])[:7]}"
        + (", modified" if made["modified"] else "")
        + (", freed memory kept" if made.get("keeps_freed_memory") else "")
    )


def show_ratios(speed: Speed) -> pd.DataFrame:
    """Turn every ratio into what a reader sees, all strings."""
    rows = speed.ratios
    spread = [
        _number(row.ratio)
        + (f" [{_number(row.q25)}, {_number(row.q75)}]" if row.q25 < row.q75 else "")
        for row in rows.itertuples()
    ]
    shown = rows[["backend", "name", "shape"]].assign(
        **{"ratio [quartiles]": spread},
        bar=[f"{bar:g}" for bar in rows["bar"]],
        met=rows["met"],
    )
    return shown.astype(str)


def summarize(speed: Speed) -> pd.DataFrame:
    """Show, for each backend and kind of ratio, its range over shapes and how often it met its bar.

    Returns:
        All strings: `ratio`, and for each backend `<lowest> to <highest>, <met> of <shapes>`.
    """

    def show(rows):
        low, high = _number(rows["ratio"].min()), _number(rows["ratio"].max())
        met = f"{(rows['met'] == 'yes').sum()} of {len(rows)}"
        return f"{low} to {high}, {met}" if len(rows) > 1 else f"{low}, {met}"

    bars = speed.ratios.groupby(["name", "bar"], sort=False)
    columns = list(dict.fromkeys(speed.ratios["backend"]))
    table = [
        {
            "ratio (bar)": f"{name} ({bar:g})",
            **{
                backend: show(rows[rows["backend"] == backend])
                if (rows["backend"] == backend).any()
                else "-"
                for backend in columns
            },
        }
        for (name, bar), rows in bars
    ]
    return pd.DataFrame(table)


def show_growth(speed: Speed) -> pd.DataFrame:
    """Show, for the shapes of the figure, our BRN's time over that of Keras's BN.

    Ratios of medians, all strings: `shape`, and a column for each backend.
    """
    backends = list(dict.fromkeys(speed.times["backend"]))
    rows = {}
    for pattern, _ in GROWTH.values():
        for backend in backends:
            ours, theirs = (
                curve(speed, backend, what, pattern)["median_ms"] for what in ("brn", "Keras bn")
            )
            for number, ratio in (ours / theirs).items():
                rows.setdefault(pattern.format(number), {})[backend] = _number(ratio)
    table = [{"shape": shape, **ratios} for shape, ratios in rows.items()]
    return pd.DataFrame(table, columns=["shape", *backends]).fillna("-").astype(str)


def show_parts(speed: Speed) -> pd.DataFrame:
    """Show what our passes are made of, in ms and in times of a copy, and what a call costs.

    All strings. The copy is of the same activations, in the same mode.
    """
    times = speed.times
    parts = times[times["shape"].str.startswith("parts of ")]
    copies = parts[parts["what"] == "copy"].set_index(["backend", "mode"])["median_ms"]
    copies = copies.groupby(level=[0, 1]).median()
    shown = parts[parts["what"] != "copy"]
    in_copies = [
        f"{row.median_ms / copies[row.backend, row.mode]:.1f}" for row in shown.itertuples()
    ]
    calls = times[times["shape"] == TINY]
    rows = pd.concat([shown.assign(copies=in_copies), calls.assign(copies="-")])
    rows = rows.assign(ms=[f"{median:.2f}" for median in rows["median_ms"]])
    columns = {"what": "part or layer", "copies": "in copies"}
    return rows[["backend", "mode", "shape", "what", "ms", "copies"]].rename(columns=columns)


@styled
def draw_growth(speed: Speed, stacked: bool = False) -> Figure:
    """Draw how a pass's time grows: a row of panels for each backend, or one column if stacked."""
    backends = list(dict.fromkeys(speed.times["backend"]))
    panels = [(backend, kind) for backend in backends for kind in GROWTH]
    columns = 1 if stacked else len(GROWTH)
    rows = len(panels) // columns
    figure = new_figure((3.9 if stacked else 7.0, 0.6 + 2.1 * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (backend, kind) in zip(grid.flat, panels, strict=True):
        pattern, label = GROWTH[kind]
        for what, (name, look) in LAYERS.items():
            points = curve(speed, backend, what, pattern)
            axes.plot(points.index, points["median_ms"], **look.of_line, marker=".", label=name)
            band = points["q25_ms"], points["q75_ms"]
            axes.fill_between(points.index, *band, color=look.colour, alpha=0.15, lw=0)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(backend)
        axes.set_xlabel(label)
        axes.set_ylabel("time of a pass, ms")
    legend(figure, grid.flat[0], 2 if stacked else 4)
    return figure


def curve(speed: Speed, backend: str, what: str, pattern: str) -> pd.DataFrame:
    """Return the times of one layer, indexed and sorted by the number in shapes of a pattern."""
    rows = speed.times[(speed.times["backend"] == backend) & (speed.times["what"] == what)]
    before, after = pattern.split("{}")
    numbers = {
        shape: shape.removeprefix(before).removesuffix(after) for shape in rows["shape"].unique()
    }
    sizes = {s: int(n) for s, n in numbers.items() if n.isdigit() and pattern.format(n) == s}
    rows = rows[rows["shape"].isin(sizes)]
    return rows.set_index(pd.Index([sizes[shape] for shape in rows["shape"]])).sort_index()


def _number(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
