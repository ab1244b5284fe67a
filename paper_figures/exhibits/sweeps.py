"""Accuracy at the end against a setting: group size, structure of minibatches, alpha.

A study's arms are compared over its own seeds, the same for every arm, even where an arm was run
with more seeds for another study. A diverged run counts with chance level, as in the claims.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures.claims.numbers import finals
from paper_figures.drawing import COLOURS, legend, new_figure, styled
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import Protocol, Results
from paper_figures.statistics import mean_interval, paired_difference
from paper_figures.words import (
    compare,
    count,
    counted_with_chance,
    describe_diverged,
    describe_missing,
    describe_n,
    describe_protocol,
    show,
)

PLACE = 4
NAMES = {"bn": "BN", "brn": "BRN", "gn": "group normalization"}
SHUFFLED = "{}, the same images shuffled over the step"


@dataclass(frozen=True)
class Sweep:
    """Arms of a study that differ in one setting.

    Attributes:
        name, title: Of the exhibit.
        study: The study.
        setting: Of an arm, or of the protocol.
        label: Of the x axis.
        tick: From a protocol and one of its arms to the setting in words.
        note: More of the caption.
        structured: Whether the arms are class-structured: controls are drawn, too, and i.i.d. arms
            as lines across.
    """

    name: str
    title: str
    study: str
    setting: str
    label: str
    tick: Callable[[Protocol, str], str]
    note: str = ""
    structured: bool = False


SWEEPS = (
    Sweep(
        "group_size",
        "Accuracy against the number of examples that are normalized together",
        "group-size",
        "group",
        "examples normalized together",
        lambda protocol, arm: str(protocol.setting(arm, "group")),
        "Group normalization takes each example by itself: a line across.",
    ),
    Sweep(
        "structure",
        "Accuracy against the number of images that share a label in a minibatch of 32",
        "degree",
        "images",
        "minibatches: labels x images of each",
        lambda protocol, arm: f"{protocol.arms[arm]['labels']} x {protocol.arms[arm]['images']}",
        "Dotted lines: i.i.d. minibatches. Open circles: controls, the same images shuffled over "
        "the step's minibatches before they are normalized, where they were run.",
        structured=True,
    ),
    Sweep(
        "alpha",
        "Accuracy against alpha, how far the moving statistics move in a step",
        "alpha",
        "alpha",
        "alpha",
        lambda protocol, arm: f"{protocol.setting(arm, 'alpha'):g}",
    ),
)


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give each sweep of every protocol that has its study."""
    for protocol in results.protocols:
        for sweep in SWEEPS:
            study = protocol.study(sweep.study)
            if study:
                yield exhibit(
                    sweep, protocol.with_seeds(study["seeds"]), study["arms"], Section.of(protocol)
                )


def exhibit(sweep: Sweep, protocol: Protocol, arms: list[str], section: Section) -> Exhibit:
    """Make the exhibit of a sweep over these arms; the protocol has the study's seeds only."""
    title = sweep.name.replace("_", " ").capitalize()
    if not any(count(protocol, arm) for arm in arms):
        reason = f"{title} is left out: no run of the study {sweep.study} has ended."
        return Exhibit(section, sweep.name, title, left_out=reason)
    if len(_by_setting(sweep, protocol, arms)) < 2:
        reason = f"{title} is left out: {protocol.name} has no two settings of it to compare."
        return Exhibit(section, sweep.name, title, left_out=reason)
    beside = _beside(sweep, protocol)
    sentences = [
        f"{title}. {sweep.title}. In {describe_protocol(protocol)}: {_n(protocol, arms)}.",
        *describe_missing(protocol, [*arms, *beside]),
        *([sweep.note] if sweep.note else []),
        counted_with_chance(protocol),
        *describe_diverged(protocol, [*arms, *beside]),
    ]
    rows = table(sweep, protocol, arms)
    return Exhibit(
        section,
        sweep.name,
        title,
        partial(draw, sweep, protocol, arms),
        " ".join(sentences),
        f"{title}, {protocol.name}: {'; '.join(finding(sweep, protocol, arms))}.",
        {sweep.name: (Part("Top-1 accuracy at the end, % [95 % t interval]:", rows),)},
    )


def _n(protocol, arms):
    return describe_n((count(protocol, arm) for arm in arms), "bars")


def _end(protocol, arm):
    return mean_interval(finals(protocol, arm))


def _by_setting(sweep, protocol, arms):
    """Setting -> normalization -> arm, in ascending order, without group normalization."""
    found = {}
    for arm in sorted(arms, key=lambda arm: protocol.setting(arm, sweep.setting)):
        kind = protocol.arms[arm]["normalization"]
        if kind in ("bn", "brn"):
            found.setdefault(protocol.setting(arm, sweep.setting), {})[kind] = arm
    return found


def _across(protocol, arms):
    return [arm for arm in arms if protocol.arms[arm]["normalization"] == "gn"]


def _beside(sweep, protocol):
    """Arms of other studies that are drawn, too: i.i.d. ones as lines, and controls."""
    if not sweep.structured:
        return []
    return [
        *protocol.find(paper="brn-32"),
        *protocol.find(paper="bn-32"),
        *protocol.find(sampling="shuffled"),
    ]


@styled
def draw(sweep: Sweep, protocol: Protocol, arms: list[str], stacked: bool = False) -> Figure:
    """Draw the accuracy at the end against the setting, a line a normalization.

    A line is not drawn over a setting that its arms do not have.
    """
    figure = new_figure((3.9, 4.4) if stacked else (7.0, 3.6))
    axes = figure.subplots()
    by_setting = _by_setting(sweep, protocol, arms)
    beside = _beside(sweep, protocol)
    controls = [arm for arm in beside if protocol.arms[arm]["sampling"] == "shuffled"]
    for of, thin in ((by_setting, False), (_by_setting(sweep, protocol, controls), True)):
        for kind in ("brn", "bn"):
            ends = [
                _end(protocol, of[at][kind]) if kind in of.get(at, {}) else mean_interval([])
                for at in by_setting
            ]
            if any(end.n for end in ends):
                half = np.nan_to_num([end.high - end.mean for end in ends])
                colour, name = COLOURS[kind], NAMES[kind]
                axes.errorbar(
                    list(by_setting), [end.mean for end in ends], half, color=colour, marker="o",
                    linestyle="--" if thin else "-", linewidth=0.8 if thin else 1.5, markersize=4,
                    capsize=3, label=SHUFFLED.format(name) if thin else name,
                    markerfacecolor="white" if thin else colour,
                )  # fmt: skip
    for arm in [*_across(protocol, arms), *(arm for arm in beside if arm not in controls)]:
        end, kind = _end(protocol, arm), protocol.arms[arm]["normalization"]
        if end.n:
            line = "-." if kind == "gn" else ":"
            axes.axhline(end.mean, color=COLOURS[kind], linestyle=line, label=protocol.labels[arm])
            axes.axhspan(end.low, end.high, color=COLOURS[kind], alpha=0.1, lw=0)
    ticks = [sweep.tick(protocol, next(iter(kinds.values()))) for kinds in by_setting.values()]
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(by_setting), ticks)
    axes.minorticks_off()
    axes.set_xlabel(sweep.label)
    axes.set_ylabel("top-1 accuracy at the end, %")
    axes.set_title(f"{protocol.manifest['title']}, {_n(protocol, arms)}", wrap=True)
    legend(figure, axes, 1 if stacked else 2)
    return figure


def table(sweep: Sweep, protocol: Protocol, arms: list[str]) -> pd.DataFrame:
    """Put both normalizations and their paired difference side by side, a row a setting."""
    rows = []
    for kinds in _by_setting(sweep, protocol, arms).values():
        if {"bn", "brn"} <= set(kinds):
            bn, brn = (finals(protocol, kinds[kind]) for kind in ("bn", "brn"))
            gap = paired_difference(brn, bn)
            rows.append(
                {
                    sweep.label: sweep.tick(protocol, kinds["bn"]),
                    "BN": show(mean_interval(bn)),
                    "BRN": show(mean_interval(brn)),
                    "BRN - BN, paired": show(gap),
                    "n": str(gap.n),
                }
            )
    return pd.DataFrame(rows)


def finding(sweep: Sweep, protocol: Protocol, arms: list[str]) -> list[str]:
    """State the difference between the normalizations at each setting."""
    found = []
    for kinds in _by_setting(sweep, protocol, arms).values():
        if {"bn", "brn"} <= set(kinds):
            pair = kinds["brn"], kinds["bn"]
            ends = (finals(protocol, arm) for arm in pair)
            found.append(f"{sweep.tick(protocol, pair[0])}: {compare(*ends, pair)}")
    others = [arm for arm in _across(protocol, arms) if _end(protocol, arm).n]
    return found + [f"{arm} ends at {show(_end(protocol, arm))} %" for arm in others]
