"""Figures beyond the paper, one for each of a scale's studies that has runs.

A study's arms are compared over its own seeds, the same for every arm, even where an arm was run
with more seeds for another study. A diverged run counts with chance level, as in the claims.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from paper_figures.captions import CROSS, THIN, describe_diverged, evidence, points
from paper_figures.claims.numbers import finals, spikes
from paper_figures.figures import (
    COLOURS,
    Curve,
    draw_mean,
    late_limits,
    new_figure,
    show_steps,
    styled,
    training_axis,
)
from paper_figures.load import VALIDATION, Scale, describe_runs
from paper_figures.statistics import mean_interval, paired_difference, run_summaries
from paper_figures.tables import show_estimate

HUES = (COLOURS["brn"], "#56B4E9", "#CC79A7", "#333333")
LINES = ("-", (0, (7, 1.5, 1.5, 1.5)), (0, (4, 2)), (0, (1, 1.2)))
NAMES = {"bn": "BN", "brn": "BRN", "gn": "group normalization"}
HIGHEST_LOSS = "training_loss_max"
CLIPPED = ("r_clipped_percent", "d_clipped_percent")
LAYERS_OF = "brn-32"
"""The arm whose layers are shown one by one, that of claim C10."""
MINIBATCH_SIZE = 32
ACCURACY = "top-1 accuracy at the end, %"


@dataclass(frozen=True)
class Extension:
    """A figure beyond the paper; its functions take the scale with the study's seeds only.

    Attributes:
        study: The study it shows.
        title: For the caption.
        draw: From the scale, the study's arms and whether to stack panels, to the figure.
        finding: From the scale and the arms to the parts of a sentence.
        note: More of the caption.
        keep: Which of the study's arms it shows, from what the manifest says of an arm.
        measure: What it shows.
        over_training: Whether it shows curves over training, on which divergence is a cross.
        beside: Arms of other studies that it shows, too, where the scale has them.
    """

    study: str
    title: str
    draw: Callable[[Scale, list[str], bool], Figure]
    finding: Callable[[Scale, list[str]], list[str]]
    note: str
    keep: Callable[[dict], bool] = lambda about: True
    measure: str = VALIDATION
    over_training: bool = False
    beside: tuple[str, ...] = ()

    def prepare(self, scale: Scale) -> tuple[Scale, list[str]] | None:
        """The scale with the study's seeds only, and the arms to show; `None` without the study."""
        study = scale.study(self.study)
        if study is None:
            return None
        arms = [arm for arm in study["arms"] if self.keep(scale.arms[arm])]
        arms += [arm for arm in self.beside if arm in scale.arms]
        return scale.with_seeds(study["seeds"]), arms


def left_out(name: str, scale: Scale, arms: list[str]) -> str | None:
    """Say why an extension cannot be drawn; `None` if it can."""
    measure = EXTENSIONS[name].measure
    if any(not scale.values(arm, measure).empty for arm in arms):
        return None
    return f"{_title(name)} is left out: no run with {measure} has ended."


def caption(name: str, scale: Scale, arms: list[str]) -> str:
    """Describe an extension: subject, n, what is missing, diverged runs."""
    extension = EXTENSIONS[name]
    missing = {arm: scale.missing[arm] for arm in arms if arm in scale.missing}
    counts = {scale.values(arm, extension.measure)["seed"].nunique() for arm in arms} - {0}
    fewest = f"{min(counts)} to " if len(counts) > 1 else ""
    several = f"n = {fewest}{max(counts)} seeds, 95 % t intervals" if counts != {1} else "n = 1"
    sentences = [
        f"{_title(name)}. {extension.title}. Scale {scale.name} ({scale.manifest['title']}, "
        f"{scale.total_steps:,} steps), {several}.",
        *([f"Not finished, so not in it: {describe_runs(missing)}."] if missing else []),
        extension.note,
        *describe_diverged(scale, arms, CROSS if extension.over_training else ""),
    ]
    return " ".join(sentences)


def finding(name: str, scale: Scale, arms: list[str]) -> str:
    """State in one sentence what an extension shows, with n and intervals."""
    return f"{_title(name)}, {scale.name}: {'; '.join(EXTENSIONS[name].finding(scale, arms))}."


def _title(name):
    return name.replace("_", " ").capitalize()


# Accuracy at the end against a setting.


def _setting(name):
    """From an arm to a setting: its own, one it changes, or the protocol's."""

    def value(scale, arm):
        known = scale.manifest["protocol"] | scale.arms[arm] | scale.arms[arm]["changes"]
        return known[name]

    return value


def _end(scale, arm):
    return mean_interval(finals(scale, arm))


@styled
def _sweep(scale, arms, stacked, setting, label, tick, beside=()):
    """Draw the accuracy at the end against a setting, a line a normalization.

    Args:
        scale, arms, stacked: As for every extension.
        setting: The setting's name.
        label: Of the x axis.
        tick: From a value of the setting to its name on the axis.
        beside: Arms outside the sweep that are drawn as lines across.
    """
    figure = new_figure((3.9, 4.4) if stacked else (7.0, 3.6))
    axes = figure.subplots()
    value = _setting(setting)
    shuffled = [arm for arm, about in scale.arms.items() if about["sampling"] == "shuffled"]
    series = [(kind, arms, "-", NAMES[kind]) for kind in ("brn", "bn")]
    if setting == "images_per_label":
        label_of = "{}, the same images shuffled over the step"
        series += [(kind, shuffled, "--", label_of.format(NAMES[kind])) for kind in ("brn", "bn")]
    for kind, of, line, name in series:
        chosen = sorted(
            (value(scale, arm), _end(scale, arm)) for arm in of
            if scale.arms[arm]["normalization"] == kind and _end(scale, arm).n
        )  # fmt: skip
        if chosen:
            x, ends = zip(*chosen, strict=True)
            mean = [end.mean for end in ends]
            half = np.nan_to_num([end.high - end.mean for end in ends])
            thin = line != "-"
            axes.errorbar(
                x, mean, half, color=COLOURS[kind], linestyle=line, marker="o", capsize=3,
                linewidth=0.8 if thin else 1.5, markersize=4, label=name,
                markerfacecolor="white" if thin else COLOURS[kind],
            )  # fmt: skip
    for arm in [*(a for a in arms if scale.arms[a]["normalization"] == "gn"), *beside]:
        if arm in scale.arms and _end(scale, arm).n:
            end, kind = _end(scale, arm), scale.arms[arm]["normalization"]
            line = "-." if kind == "gn" else ":"
            axes.axhline(end.mean, color=COLOURS[kind], linestyle=line, label=scale.labels[arm])
            axes.axhspan(end.low, end.high, color=COLOURS[kind], alpha=0.1, lw=0)
    values = sorted({value(scale, arm) for arm in arms})
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [tick(value) for value in values])
    axes.minorticks_off()
    axes.set_xlabel(label)
    axes.set_ylabel(ACCURACY)
    _legend(figure, axes, columns=1 if stacked else 2)
    return figure


def _sweep_finding(setting, name):
    def parts(scale, arms):
        value, found = _setting(setting), []
        for at in sorted({value(scale, arm) for arm in arms}):
            kinds = {
                scale.arms[arm]["normalization"]: arm for arm in arms if value(scale, arm) == at
            }
            if {"bn", "brn"} <= set(kinds):
                found.append(f"{name(at)}: {_compare(scale, kinds['brn'], kinds['bn'])}")
        others = [arm for arm in arms if scale.arms[arm]["normalization"] == "gn"]
        others = [arm for arm in others if _end(scale, arm).n]
        found += [f"{arm} ends at {show_estimate(_end(scale, arm))} %" for arm in others]
        return found

    return parts


def _compare(scale, first, second):
    gap = paired_difference(finals(scale, first), finals(scale, second))
    if not gap.n:
        return f"no seed has ended both for {first} and {second}"
    return f"{first} ends {points(gap.mean)} {second} ({evidence(gap)})"


# Curves over training.


def _looks(arms):
    return [
        Curve(arm, line=line, hue=hue)
        for arm, line, hue in zip(arms, LINES, HUES, strict=False)
    ]  # fmt: skip


@styled
def _bounds(scale, arms, stacked):
    """Validation accuracy and training loss of arms that differ in the bounds."""
    figure, left, right = _two_panels(stacked)
    for axes, measure in ((left, VALIDATION), (right, "training_loss")):
        curves = [replace(curve, measure=measure) for curve in _there(scale, arms)]
        for curve in curves:
            draw_mean(axes, scale, curve, scale.labels[curve.arm])
        axes.set_ylim(late_limits(scale, curves))
        training_axis(axes, scale.total_steps)
    left.set_ylabel("top-1 accuracy, %")
    right.set_ylabel("training loss")
    _legend(figure, left, columns=1 if stacked else 2)
    return figure


@styled
def _high_rate(scale, arms, stacked):
    """Validation accuracy, and the highest loss of a step since the last point, a line a run."""
    figure, left, right = _two_panels(stacked)
    for curve in _there(scale, arms):
        draw_mean(left, scale, curve, scale.labels[curve.arm])
        for _, run in scale.values(curve.arm, HIGHEST_LOSS).groupby("seed"):
            look = {"color": curve.colour, "linestyle": curve.line, "linewidth": 0.9}
            right.plot(run["step"] / scale.total_steps, run["value"], marker=".", **look)
    left.set_ylabel("top-1 accuracy, %")
    right.set_ylabel("highest training loss of a step, a line a run")
    right.set_yscale("log")
    for axes in (left, right):
        training_axis(axes, scale.total_steps)
    _legend(figure, left)
    return figure


def _two_panels(stacked):
    figure = new_figure((3.9, 6.2) if stacked else (7.0, 3.6))
    return figure, *(figure.subplots(2, 1) if stacked else figure.subplots(1, 2))


def _there(scale, arms):
    return [curve for curve in _looks(arms) if not scale.values(curve.arm).empty]


def _bounds_finding(scale, arms):
    return [_compare(scale, arm, arms[0]) for arm in arms[1:]]


def _highest_loss(scale, arm):
    highest = scale.values(arm, HIGHEST_LOSS).groupby("seed")["value"].max()
    return f", and no step has a loss above {', '.join(f'{loss:.1f}' for loss in highest)}"


def _spikes_finding(scale, arms):
    counted = spikes(scale, tuple(arms))
    parts = [
        f"{arm} has {', '.join(f'{count:.0f}' for count in runs)} loss spikes (n = {len(runs)}"
        + (f", {len(scale.diverged(arm))} diverged)" if scale.diverged(arm) else ")")
        + _highest_loss(scale, arm)
        for arm, runs in counted.items()
        if len(runs)
    ]
    return [*parts, *_bounds_finding(scale, arms)]


@styled
def _clipping(scale, arms, stacked):
    """How many r and d are clipped over training: overall, and in each layer of one arm."""
    figure = new_figure((3.9, 11.0) if stacked else (7.0, 6.4))
    grid = figure.subplots(4, 1) if stacked else figure.subplots(2, 2).T.ravel()
    for measure, (above, below) in zip(CLIPPED, (grid[:2], grid[2:]), strict=True):
        name = measure[0]
        for curve in _looks(arms):
            curve = replace(curve, measure=measure)
            if not scale.values(curve.arm, measure).empty:
                draw_mean(above, scale, curve, scale.labels[curve.arm] if name == "r" else "")
        above.set_title(f"All layers: {name} clipped")
        above.set_ylabel(f"{name} clipped, %")
        above.set_ylim(bottom=0)
        training_axis(above, scale.total_steps)
        _draw_layers(figure, below, scale, measure)
    _legend(figure, grid[0], columns=1 if stacked else 2)
    return figure


def _draw_layers(figure, axes, scale, measure):
    rows = scale.measurements.query("arm == @LAYERS_OF")
    rows = rows[rows["measure"].str.startswith(f"{measure}_layer_")]
    axes.set_title(f"{LAYERS_OF}, each layer: {measure[0]} clipped, %")
    axes.set_ylabel("layer, from the image to the logits")
    axes.set_xlabel("training step")
    axes.grid(False)
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center")
        return
    table = rows.pivot_table(index="measure", columns="step", values="value")
    highest = max(np.nanmax(table.to_numpy()), 0.1)
    shown = axes.pcolormesh(table.to_numpy(), cmap="cividis", vmin=0, vmax=highest)
    figure.colorbar(shown, ax=axes)
    places = np.arange(table.shape[1])
    places = places[len(places) % 2 ^ 1 :: 2] if len(places) > 6 else places
    axes.set_xticks(places + 0.5, [show_steps(table.columns[i]) for i in places])
    layers = np.arange(0, len(table), max(len(table) // 8, 1))
    axes.set_yticks(layers + 0.5, layers + 1)


def _last(scale, arm, measure):
    return run_summaries(scale.values(arm, measure))["final"]


def _clipping_finding(scale, arms):
    parts = []
    for arm in arms:
        ends = [mean_interval(_last(scale, arm, measure)) for measure in CLIPPED]
        if ends[0].n:
            r, d = (f"{end.mean:.2f} % of {name}" for end, name in zip(ends, "rd", strict=True))
            parts.append(f"at the end, {arm} clips {r} and {d} (n = {ends[0].n})")
    return parts


def _legend(figure, axes, columns=1):
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, fontsize=8)


COUNTED = "A diverged run counts with the level of chance, 100 % / classes."
EXTENSIONS = {
    "group_size": Extension(
        "group-size",
        "Accuracy against the number of examples that are normalized together",
        partial(_sweep, setting="group", label="examples normalized together", tick=str),
        _sweep_finding("group", "groups of {}".format),
        f"Group normalization takes each example by itself: a line across. {COUNTED}",
    ),
    "structure": Extension(
        "degree",
        "Accuracy against the number of images that share a label in a minibatch of 32",
        partial(
            _sweep,
            setting="images_per_label",
            label="minibatches: labels x images of each",
            tick=lambda images: f"{MINIBATCH_SIZE // images} x {images}",
            beside=("brn-32", "bn-32"),
        ),
        _sweep_finding("images_per_label", lambda n: f"{MINIBATCH_SIZE // n} x {n}"),
        f"Dotted lines: i.i.d. minibatches. {THIN} {COUNTED}",
    ),
    "bounds": Extension(
        "bounds",
        "Bounds of r and d: validation accuracy and training loss",
        _bounds,
        _bounds_finding,
        "Differences are those of accuracies at the end.",
        over_training=True,
    ),
    "high_rate": Extension(
        "high-rate",
        "Full bounds from the start and the ramps, at a high learning rate: accuracy, and the "
        "highest loss of a step between two evaluations",
        _high_rate,
        _spikes_finding,
        "A spike is a step whose training loss is more than 0.5 above the mean of the 50 before: "
        "none is counted in the first 50 steps, whatever their loss. A run that diverged has one "
        "more than any other.",
        over_training=True,
    ),
    "clipping": Extension(
        "paper",
        "How many r and d are clipped over training",
        _clipping,
        _clipping_finding,
        f"Below, each layer of {LAYERS_OF}, in the order of the calls, the mean over the seeds.",
        lambda about: about["normalization"] == "brn" and about["sampling"] != "shuffled",
        CLIPPED[0],
        over_training=True,
        beside=("brn-noniid-4x8",),
    ),
    "alpha": Extension(
        "alpha",
        "Accuracy against alpha, how far the moving statistics move in a step",
        partial(_sweep, setting="alpha", label="alpha", tick="{:g}".format),
        _sweep_finding("alpha", "alpha {:g}".format),
        COUNTED,
    ),
}
