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
from paper_figures.load import VALIDATION, Protocol, Results
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
    for protocol in results.protocols:
        for name, study in STUDIES.items():
            if found := protocol.study(study):
                seeds = protocol.with_seeds(found["seeds"])
                yield exhibit(name, seeds, found["arms"], Section.of(protocol))


def exhibit(name: str, protocol: Protocol, arms: list[str], section: Section) -> Exhibit:
    """Make one of the two, from a protocol that has the study's seeds only."""
    title = name.replace("_", " ").capitalize()
    if not any(count(protocol, arm) for arm in arms):
        reason = f"{title} is left out: no run of the study {STUDIES[name]} has ended."
        return Exhibit(section, name, title, left_out=reason)
    if len(arms) < 2:
        reason = f"{title} is left out: {protocol.name} has no two arms of it to compare."
        return Exhibit(section, name, title, left_out=reason)
    drawn = draw_bounds if name == "bounds" else draw_high_rate
    parts = differences(protocol, arms)
    if name == "high_rate":
        parts = [*count_spikes(protocol, arms), *parts]
    sentences = [
        f"{title}. {TITLES[name]}. In {describe_protocol(protocol)}: {_n(protocol, arms)}.",
        *describe_missing(protocol, arms),
        NOTES[name],
        *describe_diverged(protocol, arms, CROSS),
    ]
    return Exhibit(
        section,
        name,
        title,
        partial(drawn, protocol, arms),
        " ".join(sentences),
        f"{title}, {protocol.name}: {'; '.join(parts)}.",
    )


def _n(protocol, arms):
    return describe_n(count(protocol, arm) for arm in arms)


def looks(arms: list[str]) -> dict[str, Look]:
    """A line for each of a few arms of one normalization."""
    return {arm: Look(hue, line) for arm, line, hue in zip(arms, LINES, HUES, strict=False)}


@styled
def draw_bounds(protocol: Protocol, arms: list[str], stacked: bool = False) -> Figure:
    """Validation accuracy and training loss of arms that differ in the bounds."""
    figure, panels = _panels(protocol, arms, stacked)
    for axes, measure in zip(panels, (VALIDATION, LOSS), strict=True):
        drawn = [protocol.values(arm, measure) for arm in arms if count(protocol, arm)]
        axes.set_ylim(late_limits(drawn, protocol.total_steps))
        for arm, look in looks(arms).items():
            if count(protocol, arm):
                values = protocol.values(arm, measure)
                draw_mean(axes, values, protocol.total_steps, look, protocol.labels[arm])
    panels[1].set_ylabel("training loss")
    legend(figure, panels[0], 1 if stacked else 2)
    return figure


@styled
def draw_high_rate(protocol: Protocol, arms: list[str], stacked: bool = False) -> Figure:
    """Validation accuracy, and the highest loss of a step since the last point, a line a run."""
    figure, panels = _panels(protocol, arms, stacked)
    for arm, look in looks(arms).items():
        if not count(protocol, arm):
            continue
        draw_mean(panels[0], protocol.values(arm), protocol.total_steps, look, protocol.labels[arm])
        for _, run in protocol.values(arm, HIGHEST_LOSS).groupby("seed"):
            x = run["step"] / protocol.total_steps
            panels[1].plot(x, run["value"], **{**look.of_line, "linewidth": 0.9}, marker=".")
    panels[1].set_ylabel("highest training loss of a step, a line a run")
    panels[1].set_yscale("log")
    legend(figure, panels[0])
    return figure


def _panels(protocol, arms, stacked):
    figure = new_figure((3.9, 6.2) if stacked else (7.0, 3.6))
    panels = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
    panels[0].set_ylabel("top-1 accuracy, %")
    for axes in panels:
        training_axis(axes, protocol.total_steps)
    figure.suptitle(f"{protocol.manifest['title']}, {_n(protocol, arms)}", fontsize=8.5, wrap=True)
    return figure, panels


def differences(protocol: Protocol, arms: list[str]) -> list[str]:
    """State how far each arm ends from the first."""
    ends = {arm: finals(protocol, arm) for arm in arms}
    return [compare(ends[arm], ends[arms[0]], (arm, arms[0])) for arm in arms[1:]]


def count_spikes(protocol: Protocol, arms: list[str]) -> list[str]:
    """State how many loss spikes the runs of each arm have, and their highest losses."""
    return [
        f"{arm} has {', '.join(f'{number:.0f}' for number in runs)} loss spikes (n = {len(runs)}"
        + (f", {len(protocol.diverged(arm))} diverged)" if protocol.diverged(arm) else ")")
        + _highest_loss(protocol, arm)
        for arm, runs in spikes(protocol, tuple(arms)).items()
        if len(runs)
    ]


def _highest_loss(protocol, arm):
    highest = protocol.values(arm, HIGHEST_LOSS).groupby("seed")["value"].max()
    return f", and no step has a loss above {', '.join(f'{loss:.1f}' for loss in highest)}"
