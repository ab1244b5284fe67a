"""What non-i.i.d. minibatches cost, against the number of normalization layers.

For every protocol whose class-structured arms differ in the setting `depth`. Damage is how far an
arm ends below its control, the same images shuffled over the step's minibatches before they are
normalized, paired by seed: the part of the loss that is the normalization's. A diverged run counts
with chance level.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper_figures.claims.numbers import finals
from paper_figures.drawing import COLOURS, legend, new_figure, styled
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import Protocol, Results
from paper_figures.statistics import Estimate, mean_interval, paired_difference
from paper_figures.words import (
    count,
    counted_with_chance,
    describe_diverged,
    describe_missing,
    describe_n,
    describe_protocol,
    evidence,
    show,
)

PLACE = 3.5
NAMES = {"bn": "BN", "brn": "BRN"}


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the figure of every protocol that has arms of several depths with their controls."""
    for protocol in results.protocols:
        arms = arms_by_depth(protocol)
        if len({depth for depths in arms.values() for depth in depths}) > 1:
            yield exhibit(protocol, arms)


def arms_by_depth(protocol: Protocol) -> dict[str, dict[int, str]]:
    """Normalization -> depth -> the arm with adjacent images of a label that has a control."""
    found: dict[str, dict[int, str]] = {kind: {} for kind in NAMES}
    for arm in protocol.find(sampling="adjacent"):
        about, depth = protocol.arms[arm], protocol.setting(arm, "depth")
        if about["control"] and about["normalization"] in found and depth:
            found[about["normalization"]].setdefault(depth, arm)
    return {kind: dict(sorted(arms.items())) for kind, arms in found.items() if arms}


def damage(protocol: Protocol, arm: str) -> Estimate:
    """How far an arm ends below its control, in points, over the seeds that both have."""
    ends = (finals(protocol, a) for a in (protocol.arms[arm]["control"], arm))
    return paired_difference(*ends)


def exhibit(protocol: Protocol, arms: dict[str, dict[int, str]]) -> Exhibit:
    """Make the exhibit of a protocol."""
    section, title = Section.of(protocol), "Depth"
    pairs = [(arm, protocol.arms[arm]["control"]) for of in arms.values() for arm in of.values()]
    every = [arm for pair in pairs for arm in pair]
    if not any(damage(protocol, arm).n for arm, _ in pairs):
        reason = f"{title} is left out: no pair of an arm and its control has ended."
        return Exhibit(section, "depth", title, left_out=reason)
    structures = {(protocol.arms[arm]["labels"], protocol.arms[arm]["images"]) for arm, _ in pairs}
    words = " and ".join(f"{labels} x {images}" for labels, images in sorted(structures))
    sentences = [
        f"Depth. How far training with minibatches of {words}, labels x images of each, ends below "
        "its control, against the number of normalization layers. "
        f"In {describe_protocol(protocol)}: {_n(protocol, arms)}, paired by seed.",
        "The control has the same images, shuffled over the step's minibatches before they are "
        "normalized.",
        *describe_missing(protocol, every),
        counted_with_chance(protocol),
        *describe_diverged(protocol, every),
    ]
    parts = [
        f"with {depth} normalization layers {arm} ends {gap.mean:z.1f} points below its control "
        f"({evidence(gap)})"
        for of in arms.values()
        for depth, arm in of.items()
        for gap in [damage(protocol, arm)]
        if gap.n
    ]
    return Exhibit(
        section,
        "depth",
        title,
        partial(draw, protocol, arms),
        " ".join(sentences),
        f"Depth, {protocol.name}: {'; '.join(parts)}.",
        {
            "depth": (
                Part("Top-1 accuracy at the end, %, and damage, points:", table(protocol, arms)),
            )
        },
    )


def _n(protocol, arms):
    return describe_n(
        (damage(protocol, arm).n for of in arms.values() for arm in of.values()), "bars"
    )


@styled
def draw(protocol: Protocol, arms: dict[str, dict[int, str]], stacked: bool = False) -> Figure:
    """Draw the damage against the depth, a line a normalization, bars for intervals."""
    figure = new_figure((3.9, 4.4) if stacked else (7.0, 3.6))
    axes = figure.subplots()
    depths = sorted({depth for of in arms.values() for depth in of})
    for place, (kind, of) in enumerate(arms.items()):
        gaps = [damage(protocol, of[d]) if d in of else mean_interval([]) for d in depths]
        beside = 1.01 ** (2 * place - len(arms) + 1)  # so that no bar covers another
        axes.errorbar(
            [beside * depth for depth in depths],
            [gap.mean for gap in gaps],
            np.nan_to_num([gap.high - gap.mean for gap in gaps]),
            color=COLOURS[kind],
            marker="o",
            markersize=4,
            capsize=3,
            label=NAMES[kind],
        )
    axes.axhline(0, color="#777777", linewidth=0.7, zorder=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(depths, map(str, depths))
    axes.minorticks_off()
    axes.set_xlabel("normalization layers")
    axes.set_ylabel("points below the control")
    axes.set_title(f"{protocol.manifest['title']}, {_n(protocol, arms)}", wrap=True)
    legend(figure, axes, 1 if stacked else 2)
    return figure


def table(protocol: Protocol, arms: dict[str, dict[int, str]]) -> pd.DataFrame:
    """Put arms, controls and damage side by side, a row an arm."""
    rows = []
    for kind, of in arms.items():
        for depth, arm in of.items():
            control = protocol.arms[arm]["control"]
            ends = {a: mean_interval(finals(protocol, a)) for a in (arm, control)}
            rows.append(
                {
                    "normalization": NAMES[kind],
                    "layers": str(depth),
                    "non-i.i.d.": show(ends[arm]),
                    "control": show(ends[control]),
                    "control - non-i.i.d., paired": show(damage(protocol, arm)),
                    "n": str(min(count(protocol, arm), count(protocol, control))),
                }
            )
    return pd.DataFrame(rows)
