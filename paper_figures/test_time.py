"""Three questions about batch normalization at test time: figures, captions and findings.

The study's scales are those named `test_time...`; what is measured is in
`results/protocol-test-time.md`, the reasoning in `docs/test-time-statistics.md`.
"""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.figures import new_figure, styled
from paper_figures.load import VALIDATION, Scale
from paper_figures.statistics import geometric_interval, mean_curve, mean_interval
from paper_figures.test_time_findings import (
    RATES,
    TRAINED,
    WARM_UP,
    WAYS,
    Finding,
    at_step,
    corruptions,
    final,
    find_averages,
    find_minibatches,
    find_training,
    growth,
    members,
    middle_step,
    noise_factor,
    rate_of,
    total_norm,
)

COLOURS = {
    "bn-32": "#D55E00",
    "brn-32": "#0072B2",
    "bn-4": "#009E73",
    "bn-32-slow": "#56B4E9",
    "bn-32-fast": "#000000",
    "constants-32": "#CC79A7",
    "unclipped-32": "#009E73",
    "constants-32-cold": "#CC79A7",
    "unclipped-32-cold": "#009E73",
}


@dataclass(frozen=True)
class Question:
    """One of the three questions: its answer, its figure, and what was found.

    Attributes:
        question, answer: as a reader finds them; the answer has two sentences.
        title: of the figure.
        draw: draws the figure.
        find: returns what the figure's runs show.
        arms: that the figure needs.
    """

    question: str
    answer: str
    title: str
    draw: Callable[..., Figure]
    find: Callable[[Scale], list[Finding]]
    arms: tuple[str, ...]

    def missing(self, scale: Scale) -> str | None:
        """Say which arms the figure lacks; None if it can be drawn."""
        absent = [arm for arm in self.arms if arm not in set(scale.runs["arm"])]
        return (
            f"{self.title.rstrip('.')}: left out, {', '.join(absent)} not run." if absent else None
        )

    def caption(self, scale: Scale) -> str:
        """Describe the figure: subject, n, diverged runs, what is particular to the scale."""
        counts = [scale.runs.query("arm == @arm")["seed"].nunique() for arm in self.arms]
        few = f"{min(counts)} to " if min(counts) < max(counts) else ""
        band = "bands and bars: 95 % t intervals" if max(counts) > 1 else "no intervals"
        diverged = [f"{arm} seed {seed}" for arm in self.arms for seed in scale.diverged(arm)]
        return " ".join(
            [
                f"{self.title} Scale {scale.name}, {scale.total_steps:,} steps: mean of "
                f"n = {few}{max(counts)} seeds, {band}.",
                *([f"Diverged: {', '.join(diverged)}."] if diverged else []),
                *scale.manifest["notes"],
            ]
        )


def is_study(name: str) -> bool:
    """Say whether a scale belongs to this study."""
    return name.startswith("test_time")


def write_question(number: int) -> str:
    """Write a question as a heading in Markdown, with its answer."""
    asked = QUESTIONS[number]
    answer = textwrap.fill(f"**{asked.answer}**", 100)
    return f"## {number}. {asked.question}\n\n{answer}\n"


# Drawing


def _axes(stacked, panels):
    figure = new_figure((3.9, 3.0 * panels) if stacked else (3.4 * panels, 3.6))
    grid = figure.subplots(panels, 1) if stacked else figure.subplots(1, panels)
    return figure, list(grid)


def _line(axes, x, estimates, **look):
    """Draw means, and a band where there are intervals."""
    mean, low, high = (
        np.array([getattr(e, k) for e in estimates]) for k in ("mean", "low", "high")
    )
    axes.plot(x, mean, **look)
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)


def _curve(axes, values, **look):
    mean = mean_curve(values)
    axes.plot(mean["step"], mean["mean"], **look)
    if (mean["n"] > 1).any():
        axes.fill_between(
            mean["step"], mean["low"], mean["high"], color=look["color"], alpha=0.15, lw=0
        )


def _by_size(axes, scale, pattern):
    for arm in TRAINED:
        colour = COLOURS[arm]
        measures = members(scale, arm, pattern)
        estimates = [mean_interval(final(scale, arm, name)) for name in measures.values()]
        _line(axes, list(measures), estimates, color=colour, marker=".", label=scale.labels[arm])
    _doubling(axes, (1, 4, 16, 64, 256), "images in a test minibatch")


def _logarithmic(axes):
    """Make the y axis logarithmic, for all the lines: a band may reach below 0."""
    lines = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 2]
    axes.set_yscale("log")
    axes.set_ylim(0.7 * min(map(np.min, lines)), 1.4 * max(map(np.max, lines)))


def _accuracies(axis):
    """Label an axis of accuracies: all percents, unless all that is drawn is in the lower half."""
    axis.set_label_text("top-1 accuracy, %")
    highest = axis.get_data_interval()[1]
    highest = 100 if highest > 50 else 1.1 * highest
    axis.set_view_interval(-0.02 * highest, 1.02 * highest, ignore=True)


def _doubling(axes, ticks, label):
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel(label)


@styled
def draw_averages(scale: Scale, stacked: bool = False) -> Figure:
    """Accuracy by size of the test minibatch; distance of averages from the population."""
    figure, (accuracy, course, trade) = _axes(stacked, 3)
    _by_size(accuracy, scale, r"accuracy_minibatch_(\d+)_percent")
    for arm in TRAINED:
        colour = COLOURS[arm]
        for kind, line in (("running", "--"), ("population", ":")):
            mean = final(scale, arm, f"accuracy_{kind}_percent").mean()
            accuracy.axhline(mean, color=colour, linestyle=line, linewidth=1)
    accuracy.set_title("Minibatch's own statistics;\n- - running average, ··· population")
    _accuracies(accuracy.yaxis)
    accuracy.legend(fontsize=7)
    distances = members(scale, "bn-32", r"mean_distance_alpha_([\d.]+)")
    for shade, (alpha, name) in zip(np.linspace(0.25, 1, 5), distances.items(), strict=True):
        _curve(
            course,
            scale.values("bn-32", name),
            color=(*_rgb(COLOURS["bn-32"]), shade),
            marker=".",
            label=f"alpha {alpha:g}",
        )
    course.set_title("Running averages on their way\nto the population's mean, BN 32")
    course.set_xlabel("training step")
    course.set_ylabel("distance, in standard deviations")
    middle = middle_step(scale)
    for arm in RATES:
        colour = COLOURS[arm]
        estimates = [
            mean_interval(at_step(scale, arm, name, middle)) for name in distances.values()
        ]
        rate = rate_of(arm)
        _line(trade, list(distances), estimates, color=colour, marker=".", label=rate)
        noise = at_step(scale, arm, "minibatch_mean_noise", middle).mean()
        trade.plot(
            list(distances),
            [noise * noise_factor(a) for a in distances],
            color=colour,
            linestyle="--",
        )
    trade.set_title(f"Distance at step {middle}, by alpha;\n- - the part that is noise")
    trade.set_xlabel("alpha = 1 - momentum")
    trade.set_ylabel("distance, in standard deviations")
    trade.set_xscale("log")
    for axes in (course, trade):
        _logarithmic(axes)
    low, high = course.get_ylim()
    course.set_ylim(low / (high / low) ** 0.45, high)  # room for the legend below all curves
    course.legend(fontsize=7, loc="lower left")
    trade.legend(fontsize=7)
    return figure


@styled
def draw_minibatches(scale: Scale, stacked: bool = False) -> Figure:
    """What an image's prediction owes to its minibatch: mates, structure, corruption."""
    figure, (changes, classes, corrupted) = _axes(stacked, 3)
    _by_size(changes, scale, r"changes_minibatch_(\d+)_percent")
    changes.set_title("The same image among other mates:\nother prediction")
    changes.set_ylabel("predictions that differ, %")
    changes.set_ylim(0, 100)
    changes.legend(fontsize=7)
    for arm in TRAINED:
        colour = COLOURS[arm]
        for kind, line in (("minibatch", "-"), ("running", "--")):
            measures = members(scale, arm, rf"accuracy_classes_(\d+)_{kind}_percent")
            estimates = [mean_interval(final(scale, arm, name)) for name in measures.values()]
            _line(classes, list(measures), estimates, color=colour, linestyle=line, marker=".")
    _doubling(classes, (1, 2, 4, 8, 16), "classes in a test minibatch of 16")
    _accuracies(classes.yaxis)
    classes.set_title("Few classes in a minibatch;\n- - running average")
    names = corruptions(scale)
    for kind, colour, marker in (("minibatch", "#D55E00", "o"), ("running", "#666666", "s")):
        found = [
            mean_interval(final(scale, "bn-32", f"accuracy_{n}_{kind}_percent")) for n in names
        ]
        mean = np.array([e.mean for e in found])
        error = np.array([[e.mean - e.low, e.high - e.mean] for e in found]).T
        label = {"minibatch": "minibatch of 64", "running": "running average"}[kind]
        corrupted.errorbar(
            mean,
            range(len(names)),
            xerr=None if np.isnan(error).any() else error,
            fmt=marker,
            color=colour,
            markersize=4,
            label=label,
        )
    corrupted.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    corrupted.invert_yaxis()
    _accuracies(corrupted.xaxis)
    corrupted.set_title("Corrupted test images, BN 32")
    corrupted.legend(fontsize=7, loc="lower right")
    return figure


@styled
def draw_training(scale: Scale, stacked: bool = False) -> Figure:
    """Training with the averages: loss, accuracy, norms of weights and of activations."""
    figure, (loss, accuracy, norms, layers) = _axes(stacked, 4)
    for arm in WAYS:
        line = ":" if arm.endswith("cold") else "-"
        look = {"color": COLOURS[arm], "linestyle": line, "label": scale.labels[arm]}
        _curve(loss, scale.values(arm, "training_loss"), **look)
        _curve(accuracy, scale.values(arm, VALIDATION), **look)
        _curve(norms, total_norm(scale, arm), **look)
        names = members(scale, arm, r"activation_rms_layer_(\d+)")
        grown = [
            geometric_interval(growth(scale, arm, scale.values(arm, name)))
            for name in names.values()
        ]
        if not arm.endswith("cold"):
            _line(layers, list(names), grown, marker=".", **look)
    for axes, title in (
        (loss, "Training loss"),
        (accuracy, "Validation, running average"),
        (norms, "Norm of all kernels"),
    ):
        axes.set_title(title)
        axes.set_xlabel("training step")
        axes.axvline(WARM_UP * scale.total_steps, color="#999999", linewidth=0.8)
    loss.set_ylabel("cross entropy")
    loss.set_ylim(0)
    _accuracies(accuracy.yaxis)
    norms.set_ylabel("norm")
    norms.set_yscale("log")
    layers.set_title("Growth of activations before\nnormalization, since the warm-up")
    layers.set_xlabel("layer")
    layers.xaxis.set_major_locator(MaxNLocator(integer=True))
    layers.set_ylabel("factor")
    layers.set_yscale("log")
    handles = loss.get_legend_handles_labels()
    columns = 1 if stacked else 3
    figure.legend(*handles, loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def _rgb(colour):
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


QUESTIONS = {
    1: Question(
        "How can an average over training minibatches serve at test time, where there are "
        "minibatches too?",
        "Because it estimates the right thing: the statistics of the population, which each "
        "minibatch only samples. It comes close if it averages over enough minibatches to lose "
        "their noise, and over few enough that the weights have not moved away meanwhile.",
        "Averages, population and test minibatch.",
        draw_averages,
        find_averages,
        tuple(dict.fromkeys((*TRAINED, *RATES))),
    ),
    2: Question(
        "Why not use the test minibatch's own mean and variance, as in training?",
        "Because then the answer for an image depends on which other images happen to be asked "
        "about with it, and in a minibatch of one image, or of one class, the statistics remove "
        "part of what was to be recognized and leave what the network was not trained on. Where "
        "all test images are shifted alike, as by another camera, it can be the better choice.",
        "Minibatch-mates, structure and corruption.",
        draw_minibatches,
        find_minibatches,
        TRAINED,
    ),
    3: Question(
        "If averages are used at test time, why not already in training?",
        "Normalize with averages as constants, and the gradient no longer knows that the "
        "normalization will undo what it does: weights grow step by step and learning suffers. Use "
        "the averages in the forward pass and let the gradient flow through the minibatch's "
        "statistics, and it trains: within bounds this is Batch Renormalization, the better one "
        "with microbatches of 4, while with independent minibatches of 32 it ends some points "
        "below batch normalization in short runs on digits, and no difference is shown in longer "
        "ones on Tiny ImageNet.",
        "Training with the averages.",
        draw_training,
        find_training,
        WAYS,
    ),
}
