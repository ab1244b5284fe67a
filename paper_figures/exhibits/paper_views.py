"""What figures 1 to 3 show: the paper's curves, our arms that repeat them, and their controls."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from paper_figures.drawing import LINES
from paper_figures.load import MINIBATCH, TRAINING, TRAINING_MODE, VALIDATION, Paper, Protocol
from paper_figures.words import count

PAPER_STEPS = {1: 140_000, 2: 160_000, 3: 140_000}  # the length of each figure's axis
TWINS = {"bn": "bn-32", "brn": "brn-32"}
"""The paper's i.i.d. arm of each normalization."""


@dataclass(frozen=True)
class Curve:
    """A curve of the paper's figure: one of its arms, and how it is evaluated.

    `only_ours` marks what the paper does not show.
    """

    arm: str
    measure: str = VALIDATION
    line: str | tuple = "-"
    marker: str = "o"
    only_ours: bool = False


CURVES = {
    1: (Curve("bn-32", marker="."), Curve("brn-32", marker=".")),
    2: (Curve("bn-4", marker="."), Curve("brn-4", marker=".")),
    3: (
        Curve("brn-noniid"),
        Curve("bn-halves", line=LINES[1], marker="s"),
        Curve("bn-noniid", MINIBATCH, LINES[3], "D"),
        Curve("bn-noniid", TRAINING, LINES[2], "^"),
        Curve("bn-noniid", TRAINING_MODE, (0, (3, 1, 1, 1, 1, 1)), "v", only_ours=True),
        Curve("bn-noniid"),
    ),
}


@dataclass(frozen=True)
class View:
    """One figure at one protocol.

    Attributes:
        number: The paper's number of it.
        protocol: The protocol's runs.
        paper: The paper's numbers.
        structure: Labels and images of each in a minibatch, for figure 3.
        own: Whether that is the structure of the protocol itself.
    """

    number: int
    protocol: Protocol
    paper: Paper
    structure: tuple[int, int] | None = None
    own: bool = True

    @property
    def at(self) -> str:
        """The structure in words, such as `16 x 2`; "" without one."""
        return " x ".join(map(str, self.structure)) if self.structure else ""

    @property
    def name(self) -> str:
        """Of its files."""
        return f"figure_{self.number}" + ("" if self.own else f"_{self.at.replace(' ', '')}")

    @property
    def title(self) -> str:
        """Of it."""
        return f"Figure {self.number}" + ("" if self.own else f", {self.at}")

    def arm(self, paper_arm: str) -> str | None:
        """Our arm that repeats one of the paper's."""
        fields = dict(zip(("labels", "images"), self.structure or (), strict=False))
        return next(iter(self.protocol.find(paper=paper_arm, **fields)), None)

    def measured(self, curve: Curve) -> str | None:
        """Our arm of a curve, if there are values of it."""
        arm = self.arm(curve.arm)
        return arm if arm and count(self.protocol, arm, curve.measure) else None

    @property
    def drawn(self) -> dict[Curve, str]:
        """The curves of which we have values, with our arm of each."""
        curves = {curve: self.measured(curve) for curve in CURVES[self.number]}
        return {curve: arm for curve, arm in curves.items() if arm}

    @property
    def controls(self) -> dict[str, str]:
        """Arms that are drawn and have a control with values -> that control."""
        arms = dict.fromkeys(self.drawn.values())
        controls = {arm: self.protocol.arms[arm]["control"] for arm in arms}
        return {arm: c for arm, c in controls.items() if c and count(self.protocol, c)}

    @property
    def counts(self) -> list[int]:
        """Seeds of each curve."""
        return [count(self.protocol, arm, curve.measure) for curve, arm in self.drawn.items()]


def views(protocol: Protocol, paper: Paper) -> Iterator[View]:
    """Give the figures of a protocol, figure 3 for each structure that repeats the paper's arms."""
    yield View(1, protocol, paper)
    yield View(2, protocol, paper)
    own = (protocol.settings["labels_per_minibatch"], protocol.settings["images_per_label"])
    sampled = {curve.arm for curve in CURVES[3]}
    structures = [
        (about["labels"], about["images"])
        for about in protocol.arms.values()
        if about["paper"] in sampled
    ]
    for structure in dict.fromkeys([own, *structures]):
        yield View(3, protocol, paper, structure, structure == own)


def difference_to_control(view: View, curve: Curve) -> pd.DataFrame:
    """How far a curve is above that of its control, by seed and step, as of `Protocol.values`."""
    protocol, arm = view.protocol, view.arm(curve.arm)
    control = view.controls.get(arm)
    measure = VALIDATION if curve.measure == MINIBATCH else curve.measure
    values = protocol.values(arm, curve.measure)
    if control is None:
        return values[:0]
    theirs = protocol.values(control, measure).set_index(["seed", "step"])["value"]
    of = pd.MultiIndex.from_frame(values[["seed", "step"]])
    gap = values["value"] - theirs.reindex(of).to_numpy()
    return values.assign(value=gap).dropna(subset="value")
