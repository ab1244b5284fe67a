"""Three questions about batch normalization at test time, for every protocol with that study.

What is measured is in `results/protocol-test-time.md`, the reasoning in
`docs/test-time-statistics.md`.
"""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper_figures.drawing import Look, legend, new_figure, styled
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.exhibits.inference_findings import (
    LETTERS,
    MINIBATCH,
    POPULATION,
    RATES,
    RUNNING,
    TRAINED,
    WARM_UP,
    WAYS,
    at_step,
    by_number,
    corruptions,
    final,
    find_averages,
    find_minibatches,
    find_training,
    growth,
    middle_step,
    noise_factor,
    rate_of,
    total_norm,
)
from paper_figures.load import VALIDATION, Protocol, Results
from paper_figures.statistics import Estimate, geometric_interval, mean_curve, mean_interval
from paper_figures.words import (
    count,
    describe_diverged,
    describe_missing,
    describe_n,
    describe_protocol,
)

PLACE = 7
STUDY = "test-time"
PAGE = "test-time-statistics"
INTRODUCTION = (
    "Why, and where this stops being true: see Three questions about batch normalization at test "
    f"time, docs/{PAGE}.md."
)
LOOKS = {
    "bn-32": Look("#D55E00"),
    "brn-32": Look("#0072B2"),
    "bn-4": Look("#009E73"),
    "bn-32-slow": Look("#56B4E9"),
    "bn-32-fast": Look("#000000"),
    "constants-32": Look("#CC79A7"),
    "unclipped-32": Look("#009E73"),
    "constants-32-cold": Look("#CC79A7", ":"),
    "unclipped-32-cold": Look("#009E73", ":"),
}


@dataclass(frozen=True)
class Question:
    """One of the three questions: its answer, its figure, and what was found.

    Attributes:
        question, answer: as a reader finds them; the answer has two sentences.
        title: of the figure.
        draw: draws the figure.
        find: returns what the figure's runs show, but for n.
        arms: that the figure needs.
    """

    question: str
    answer: str
    title: str
    draw: Callable[..., Figure]
    find: Callable[[Protocol], list[Part]]
    arms: tuple[str, ...]

    def exhibit(self, protocol: Protocol, number: int) -> Exhibit:
        """Make the exhibit of a protocol, or say which arms it lacks."""
        section = Section.of(protocol)
        section = replace(section, introduction=INTRODUCTION, page=PAGE)
        name, title = f"figure_{number}", f"{number}. {self.question}"
        absent = [arm for arm in self.arms if not count(protocol, arm)]
        if absent:
            reason = f"{self.title} is left out: no run of {', '.join(absent)} has ended."
            return Exhibit(section, name, title, left_out=reason)
        caption = [
            f"{self.title}. In {describe_protocol(protocol)}: {_n(protocol, self.arms)}.",
            *describe_missing(protocol, self.arms),
            *describe_diverged(protocol, self.arms),
        ]
        asked = f"## {title}\n\n{textwrap.fill(f'**{self.answer}**', 100)}"
        n = Part(f"(Protocol {protocol.name}, {_n(protocol, self.arms, 'in brackets')}.)")
        return Exhibit(
            section,
            name,
            title,
            partial(self.draw, protocol),
            " ".join(caption),
            self.answer,
            {f"question_{number}": (Part(asked),), f"finding_{number}": (*self.find(protocol), n)},
        )


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the three questions for every protocol that has the study."""
    for protocol in results.protocols:
        if protocol.study(STUDY):
            for number, question in QUESTIONS.items():
                yield question.exhibit(protocol, number)


def _n(protocol, arms, drawn="bands and bars"):
    return describe_n((count(protocol, arm) for arm in arms), drawn)


# Drawing


def _axes(protocol, arms, stacked, panels):
    figure = new_figure((3.9, 3.0 * panels) if stacked else (3.4 * panels, 3.8))
    grid = figure.subplots(panels, 1) if stacked else figure.subplots(1, panels)
    title = f"{protocol.manifest['title']}: {_n(protocol, arms)}"
    figure.suptitle(title[0].upper() + title[1:], fontsize=8.5, wrap=True)
    return figure, list(grid)


def _line(axes, x, estimates, look, **more):
    """Draw means, and a band where there are intervals."""
    mean, low, high = (
        np.array([getattr(e, k) for e in estimates]) for k in ("mean", "low", "high")
    )
    axes.plot(x, mean, **look.of_line, **more)
    if np.isfinite(low).any():
        axes.fill_between(x, low, high, color=look.colour, alpha=0.15, lw=0)


def _curve(axes, values, look, **more):
    mean = mean_curve(values)
    estimates = [Estimate(row.mean, row.low, row.high, row.n) for row in mean.itertuples()]
    _line(axes, mean["step"], estimates, look, **more)


def _by_size(axes, protocol, measure):
    for arm in TRAINED:
        places = by_number(protocol, arm, measure, "minibatch")
        estimates = [_at_the_end(protocol, rows) for rows in places.values()]
        _line(axes, list(places), estimates, LOOKS[arm], marker=".", label=protocol.labels[arm])
    _doubling(axes, (1, 4, 16, 64, 256), "images in a test minibatch")


def _at_the_end(protocol, rows):
    return mean_interval(at_step(rows, protocol.total_steps))


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
def draw_averages(protocol: Protocol, stacked: bool = False) -> Figure:
    """Accuracy by size of the test minibatch; distance of averages from the population."""
    figure, (accuracy, course, trade) = _axes(protocol, QUESTIONS[1].arms, stacked, 3)
    _by_size(accuracy, protocol, "accuracy_percent")
    for arm in TRAINED:
        for measure, line in ((RUNNING, "--"), (POPULATION, ":")):
            mean = final(protocol, arm, measure).mean()
            accuracy.axhline(mean, color=LOOKS[arm].colour, linestyle=line, linewidth=1)
    accuracy.set_title("Minibatch's own statistics;\n- - running average, ··· population")
    _accuracies(accuracy.yaxis)
    accuracy.legend(fontsize=7)
    distances = {arm: by_number(protocol, arm, "mean_distance", "alpha") for arm in RATES}
    shades = np.linspace(0.25, 1, len(distances["bn-32"]))
    for shade, (alpha, rows) in zip(shades, distances["bn-32"].items(), strict=True):
        look = Look((*to_rgb(LOOKS["bn-32"].colour), shade))
        _curve(course, rows, look, marker=".", label=f"alpha {alpha:g}")
    course.set_title("Running averages on their way\nto the population's mean, BN 32")
    course.set_xlabel("training step")
    course.set_ylabel("distance, in standard deviations")
    middle = middle_step(protocol)
    for arm, of in distances.items():
        estimates = [mean_interval(at_step(rows, middle)) for rows in of.values()]
        _line(trade, list(of), estimates, LOOKS[arm], marker=".", label=rate_of(protocol, arm))
        noise = at_step(protocol.values(arm, "minibatch_mean_noise"), middle).mean()
        alone = [noise * noise_factor(alpha) for alpha in of]
        trade.plot(list(of), alone, color=LOOKS[arm].colour, linestyle="--")
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
def draw_minibatches(protocol: Protocol, stacked: bool = False) -> Figure:
    """What an image's prediction owes to its minibatch: mates, structure, corruption."""
    figure, (changes, classes, corrupted) = _axes(protocol, QUESTIONS[2].arms, stacked, 3)
    _by_size(changes, protocol, "changes_percent")
    changes.set_title("The same image among other mates:\nother prediction")
    changes.set_ylabel("predictions that differ, %")
    changes.set_ylim(0, 100)
    changes.legend(fontsize=7)
    for arm in TRAINED:
        for measure, line in ((MINIBATCH, "-"), (RUNNING, "--")):
            places = by_number(protocol, arm, measure, "classes")
            estimates = [_at_the_end(protocol, rows) for rows in places.values()]
            _line(classes, list(places), estimates, Look(LOOKS[arm].colour, line), marker=".")
    _doubling(classes, (1, 2, 4, 8, 16), "classes in a test minibatch of 16")
    _accuracies(classes.yaxis)
    classes.set_title("Few classes in a minibatch;\n- - running average")
    names = corruptions(protocol)
    for measure, colour, marker, label in (
        (MINIBATCH, "#D55E00", "o", "minibatch of 64"),
        (RUNNING, "#666666", "s", "running average"),
    ):
        found = [mean_interval(final(protocol, "bn-32", measure, "images", name)) for name in names]
        error = np.array([[e.mean - e.low, e.high - e.mean] for e in found]).T
        corrupted.errorbar(
            [e.mean for e in found],
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
def draw_training(protocol: Protocol, stacked: bool = False) -> Figure:
    """Training with the averages: loss, accuracy, norms of weights and of activations."""
    figure, (loss, accuracy, norms, layers) = _axes(protocol, WAYS, stacked, 4)
    for arm in WAYS:
        look, label = LOOKS[arm], protocol.labels[arm]
        _curve(loss, protocol.values(arm, "training_loss"), look, label=label)
        _curve(accuracy, protocol.values(arm, VALIDATION), look)
        _curve(norms, total_norm(protocol, arm), look)
        if arm in LETTERS:
            places = by_number(protocol, arm, "activation_rms", "layer")
            grown = [geometric_interval(growth(protocol, rows)) for rows in places.values()]
            _line(layers, list(places), grown, look, marker=".")
    for axes, title in (
        (loss, "Training loss"),
        (accuracy, "Validation, running average"),
        (norms, "Norm of all kernels"),
    ):
        axes.set_title(title)
        axes.set_xlabel("training step")
        axes.axvline(WARM_UP * protocol.total_steps, color="#999999", linewidth=0.8)
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
    legend(figure, loss, 1 if stacked else 3)
    return figure


QUESTIONS = {
    1: Question(
        "How can an average over training minibatches serve at test time, where there are "
        "minibatches too?",
        "Because it estimates the right thing: the statistics of the population, which each "
        "minibatch only samples. It comes close if it averages over enough minibatches to lose "
        "their noise, and over few enough that the weights have not moved away meanwhile.",
        "Averages, population and test minibatch",
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
        "Minibatch-mates, structure and corruption",
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
        "Training with the averages",
        draw_training,
        find_training,
        WAYS,
    ),
}
