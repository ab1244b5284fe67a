"""Training with other bounds of r and d, over the steps: accuracy, loss, and its spikes."""

from collections.abc import Iterator
from functools import partial

from matplotlib.figure import Figure

from paper_figures.claims.numbers import finals, spikes
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
from paper_figures.load import VALIDATION, Results, Scale
from paper_figures.words import (
    CROSS,
    compare,
    count,
    describe_diverged,
    describe_missing,
    describe_n,
    describe_protocol,
)

PLACE = 5
HUES = (COLOURS["brn"], "#56B4E9", "#CC79A7", "#333333")
LOSS, HIGHEST_LOSS = "training_loss", "training_loss_max"
TITLES = {
    "bounds": "Bounds of r and d: validation accuracy and training loss",
    "high_rate": "Full bounds from the start and the ramps, at a high learning rate: accuracy, and "
    "the highest loss of a step between two evaluations",
}
NOTES = {
    "bounds": "Differences are those of accuracies at the end.",
    "high_rate": "A spike is a step whose training loss is more than 0.5 above the mean of the 50 "
    "before: none is counted in the first 50 steps, whatever their loss. A run that diverged has "
    "one more than any other.",
}
STUDIES = {"bounds": "bounds", "high_rate": "high-rate"}


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give both figures of every protocol that has their studies."""
    for scale in results.scales:
        for name, study in STUDIES.items():
            if found := scale.study(study):
                seeds = scale.with_seeds(found["seeds"])
                yield exhibit(name, seeds, found["arms"], Section.of(scale))


def exhibit(name: str, scale: Scale, arms: list[str], section: Section) -> Exhibit:
    """Make one of the two, from a scale that has the study's seeds only."""
    title = name.replace("_", " ").capitalize()
    if not any(count(scale, arm) for arm in arms):
        reason = f"{title} is left out: no run of the study {STUDIES[name]} has ended."
        return Exhibit(section, name, title, left_out=reason)
    drawn = draw_bounds if name == "bounds" else draw_high_rate
    parts = differences(scale, arms)
    if name == "high_rate":
        parts = [*count_spikes(scale, arms), *parts]
    sentences = [
        f"{title}. {TITLES[name]}. In {describe_protocol(scale)}: {_n(scale, arms)}.",
        *describe_missing(scale, arms),
        NOTES[name],
        *describe_diverged(scale, arms, CROSS),
    ]
    return Exhibit(
        section,
        name,
        title,
        partial(drawn, scale, arms),
        " ".join(sentences),
        f"{title}, {scale.name}: {'; '.join(parts)}.",
    )


def _n(scale, arms):
    return describe_n(count(scale, arm) for arm in arms)


def looks(arms: list[str]) -> dict[str, Look]:
    """A line for each of a few arms of one normalization."""
    return {arm: Look(hue, line) for arm, line, hue in zip(arms, LINES, HUES, strict=False)}


@styled
def draw_bounds(scale: Scale, arms: list[str], stacked: bool = False) -> Figure:
    """Validation accuracy and training loss of arms that differ in the bounds."""
    figure, panels = _panels(scale, arms, stacked)
    for axes, measure in zip(panels, (VALIDATION, LOSS), strict=True):
        drawn = [scale.values(arm, measure) for arm in arms if count(scale, arm)]
        axes.set_ylim(late_limits(drawn, scale.total_steps))
        for arm, look in looks(arms).items():
            if count(scale, arm):
                values = scale.values(arm, measure)
                draw_mean(axes, values, scale.total_steps, look, scale.labels[arm])
    panels[1].set_ylabel("training loss")
    legend(figure, panels[0], 1 if stacked else 2)
    return figure


@styled
def draw_high_rate(scale: Scale, arms: list[str], stacked: bool = False) -> Figure:
    """Validation accuracy, and the highest loss of a step since the last point, a line a run."""
    figure, panels = _panels(scale, arms, stacked)
    for arm, look in looks(arms).items():
        if not count(scale, arm):
            continue
        draw_mean(panels[0], scale.values(arm), scale.total_steps, look, scale.labels[arm])
        for _, run in scale.values(arm, HIGHEST_LOSS).groupby("seed"):
            x = run["step"] / scale.total_steps
            panels[1].plot(x, run["value"], **{**look.of_line, "linewidth": 0.9}, marker=".")
    panels[1].set_ylabel("highest training loss of a step, a line a run")
    panels[1].set_yscale("log")
    legend(figure, panels[0])
    return figure


def _panels(scale, arms, stacked):
    figure = new_figure((3.9, 6.2) if stacked else (7.0, 3.6))
    panels = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
    panels[0].set_ylabel("top-1 accuracy, %")
    for axes in panels:
        training_axis(axes, scale.total_steps)
    figure.suptitle(f"{scale.manifest['title']}, {_n(scale, arms)}", fontsize=8.5, wrap=True)
    return figure, panels


def differences(scale: Scale, arms: list[str]) -> list[str]:
    """State how far each arm ends from the first."""
    ends = {arm: finals(scale, arm) for arm in arms}
    return [compare(ends[arm], ends[arms[0]], (arm, arms[0])) for arm in arms[1:]]


def count_spikes(scale: Scale, arms: list[str]) -> list[str]:
    """State how many loss spikes the runs of each arm have, and their highest losses."""
    return [
        f"{arm} has {', '.join(f'{number:.0f}' for number in runs)} loss spikes (n = {len(runs)}"
        + (f", {len(scale.diverged(arm))} diverged)" if scale.diverged(arm) else ")")
        + _highest_loss(scale, arm)
        for arm, runs in spikes(scale, tuple(arms)).items()
        if len(runs)
    ]


def _highest_loss(scale, arm):
    highest = scale.values(arm, HIGHEST_LOSS).groupby("seed")["value"].max()
    return f", and no step has a loss above {', '.join(f'{loss:.1f}' for loss in highest)}"
