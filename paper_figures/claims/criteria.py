"""The paper's claims as criteria: for each a number a seed, and a threshold it should be above.

`END` is judged at the end of the runs (`results/protocol-tiny-imagenet.md`), `STAGE` within the
paper's early phase, `DEPTH` over the number of normalization layers; `CHECKS` have no verdict: they
show whether an experiment does what it is meant to (`results/criteria.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from paper_figures.claims.numbers import (
    CLIPPED,
    IN_MINIBATCHES,
    MEASURES,
    Numbers,
    clipped,
    final,
    finals,
    first_losses,
    gap,
    late_fall,
    less,
    spikes,
    steps_saved,
    won_back,
)
from paper_figures.load import MINIBATCH, OWN, TRAINING, VALIDATION, Protocol
from paper_figures.statistics import Estimate, mean_interval, median_interval
from paper_figures.words import show

DEPTHS = ((4, 8, 16, 32), (5, 9, 13, 17), (5, 8, 11, 14))
"""Normalization layers of the networks of the studies `depth`: Omniglot, digits, a chain."""
EVERY_DEPTH = sorted({depth for depths in DEPTHS for depth in depths})
"""Those of any of them, each once."""
SPIKE = 0.5
"""How far a step's loss is above the mean of the 50 before, at least, for a spike."""


@dataclass(frozen=True)
class Claim:
    """A claim and its criterion: `numbers` is above `threshold`, and below `below` if that is set.

    Attributes:
        name: Such as C3b.
        text: The claim.
        criterion: In words; `{}` stands for the structure of the minibatches in arms' names.
        arms: The arms that the criterion compares.
        numbers: From a protocol and a structure to a number a seed.
        threshold: In the unit of the numbers; `None` where nothing is judged.
        unit: Of the numbers.
        remedy: Whether the claim only means something where C5b is reproduced: where there is
            damage to give back.
        late: Whether it is about what the paper's runs do only after `stage.LATE` epochs.
        halves: The arm in halves whose halves must separate the images of a label.
        remark: What is to be said beside the verdict.
        blind: Whether something that speaks for the claim happens where its numbers do not look:
            then it cannot be called not reproduced.
    """

    name: str
    text: str
    criterion: str
    arms: tuple[str, ...]
    numbers: Numbers
    threshold: float | None = 0.0
    below: float | None = None
    unit: str = "points"
    remedy: bool = False
    late: bool = False
    halves: str = ""
    remark: Callable[[Protocol], str] = lambda protocol: ""
    blind: Callable[[Protocol], bool] = lambda protocol: False

    seeded = True
    """Whether `n` counts seeds of the grid."""

    def runs(self, protocol: Protocol, at: str = OWN) -> bool:
        """Whether the protocol has the arms, run already or not."""
        return {arm.format(at) for arm in self.arms} <= set(protocol.arms)

    def cases(self, protocol: Protocol, speed=None) -> dict[str, str]:
        """What it is judged for apart: each structure whose arms there are -> how it is written."""
        structured = any("{}" in arm for arm in self.arms)
        cases = protocol.structures if structured else {OWN: ""}
        return {at: text for at, text in cases.items() if self.runs(protocol, at)}

    def estimate(self, protocol: Protocol, at: str = OWN, speed=None) -> Estimate:
        """Estimate the mean of the numbers over the seeds that all its arms have."""
        return mean_interval(self.numbers(protocol, at).dropna())

    def note(self, protocol: Protocol, at: str = OWN, speed=None) -> str:
        """What is to be said beside the verdict of a case."""
        return self.remark(protocol)


@dataclass(frozen=True)
class StepTime(Claim):
    """A claim about the benchmark's training step, for each backend that was measured.

    It is judged with the protocol that trains on images of this shape, from this source.
    """

    ratio: str = "training step, BRN / BN"
    shape: str = "32x32x3"
    source: str = "tiny_imagenet"
    bar: float = 1.03
    seeded = False

    def cases(self, protocol: Protocol, speed=None) -> dict[str, str]:
        """The backends whose benchmark has the ratio."""
        measured = [] if speed is None else list(self._measured(speed)["backend"])
        here = self.runs(protocol) and protocol.settings["source"] == self.source
        return dict(zip(measured, measured, strict=True)) if here else {}

    def estimate(self, protocol: Protocol, at: str = OWN, speed=None) -> Estimate:
        """Estimate the bar less the median ratio, over the benchmark's rounds."""
        row = self._row(at, speed)
        rounds = self._rounds(row, speed)
        found = median_interval(row["ratio"], row["q25"], row["q75"], rounds)
        return Estimate(self.bar - found.mean, self.bar - found.high, self.bar - found.low, found.n)

    def note(self, protocol: Protocol, at: str = OWN, speed=None) -> str:
        """The ratio with its quartiles."""
        row = self._row(at, speed)
        quartiles = Estimate(row["ratio"], row["q25"], row["q75"], self._rounds(row, speed))
        return f"a step of {row['shape']}: BRN / BN {show(quartiles, 3)} (quartiles)"

    def _row(self, at, speed) -> pd.Series:
        return self._measured(speed).set_index("backend", drop=False).loc[at]

    def _rounds(self, row, speed) -> int:
        times = speed.times
        same = (times["backend"] == row["backend"]) & (times["shape"] == row["shape"])
        return int(times.loc[same, "rounds"].min())

    def _measured(self, speed) -> pd.DataFrame:
        ratios = speed.ratios
        shapes = ratios["shape"].str.match(rf"\d+x{self.shape}$")
        return ratios[(ratios["name"] == self.ratio) & shapes]


def _difference(name, text, first, second, threshold=0.0, measure=VALIDATION, **more):
    of = {VALIDATION: "final ", TRAINING: "final training accuracy, "}[measure]
    of = more.pop("of", of)
    limits = f"> {threshold:g}"
    if "below" in more:
        limits = f"between {threshold:g} and {more['below']:g}"
    criterion = f"{of}{first} - {second} {limits}"
    arms, numbers = (first, second), gap(first, second, measure)
    return Claim(name, text, criterion, arms, numbers, threshold, **more)


def _given_back(name, text, first, words, arms, **more):
    numbers = won_back(first, final("bn-noniid{}"), final("bn-shuffled{}"))
    criterion = f"{words} - (bn-noniid{{}} + bn-shuffled{{}}) / 2 > 0"
    return Claim(name, text, criterion, arms, numbers, remedy=True, **more)


def _few_clipped(name, text, what, most):
    def remark(protocol):
        found = mean_interval(clipped(protocol, "brn-32", what))
        if not found.n:
            return ""
        return f"clipped: {show(found, 3)} % of {what}"

    return Claim(
        name,
        text,
        f"{most:g} - percent of {what} clipped, brn-32, last evaluation > 0",
        ("brn-32",),
        lambda protocol, at: most - clipped(protocol, "brn-32", what),
        remark=remark,
    )


_FULL, _RAMPS = "brn-32-fast-full", "brn-32-fast"


def _more_spikes(protocol, at):
    full, ramps = spikes(protocol, (_FULL, _RAMPS)).values()
    return full - ramps


def _first_losses(protocol):
    losses = [", ".join(f"{x:.1f}" for x in first_losses(protocol, arm)) for arm in (_FULL, _RAMPS)]
    if not all(losses):
        return ""
    return f"largest loss in the first 50 steps, post hoc: {losses[0]} against {losses[1]}"


def _jumps_at_once(protocol):
    higher = (first_losses(protocol, _FULL) - first_losses(protocol, _RAMPS)).dropna()
    return len(higher) > 0 and bool((higher > SPIKE).all())


DAMAGE = _difference("C5b", "and that by its normalization", "bn-shuffled{}", "bn-noniid{}", 2)

END = (
    _difference("C1", "BRN-32 is as good as BN-32", "brn-32", "bn-32", -1),
    _difference("C2", "BN-4 is clearly worse than BN-32", "bn-32", "bn-4", 1),
    _difference("C3a", "BRN-4 beats BN-4", "brn-4", "bn-4"),
    Claim(
        "C3b",
        "BRN-4 gets to BN-4's final accuracy in fewer steps",
        "steps of the run - first evaluated step at which brn-4 reaches the end of bn-4 > 0",
        ("brn-4", "bn-4"),
        lambda protocol, at: steps_saved(protocol),
        unit="steps",
    ),
    _difference("C4", "BRN-4 stays below BRN-32", "brn-32", "brn-4"),
    _difference("C5a", "non-i.i.d. sampling hurts BN badly", "bn-32", "bn-noniid{}", 2),
    DAMAGE,
    _difference(
        "C6a", "training images in inference mode suffer too", "bn-shuffled{}", "bn-noniid{}", 2,
        TRAINING, remedy=True,
    ),
    Claim(
        "C6b",
        "and their accuracy falls late",
        "training accuracy of bn-noniid{}, mean of the third quarter - final > 0",
        ("bn-noniid{}",),
        lambda protocol, at: late_fall(protocol, f"bn-noniid{at}"),
        late=True,
    ),
    _given_back(
        "C7", "minibatch statistics on structured test minibatches give most of it back",
        final("bn-noniid{}", MINIBATCH), "bn-noniid{} with minibatch statistics",
        ("bn-noniid{}", "bn-shuffled{}"),
    ),
    _given_back(
        "C8a", "halves give most of it back", final("bn-halves{}"), "bn-halves{}",
        ("bn-halves{}", "bn-noniid{}", "bn-shuffled{}"), halves="bn-halves{}",
    ),
    _difference(
        "C8b", "and stay below BN-32", "bn-32", "bn-halves{}", remedy=True, halves="bn-halves{}"
    ),
    _difference(
        "C8c", "and that by their normalization", "bn-shuffled{}", "bn-halves{}", remedy=True,
        halves="bn-halves{}",
    ),
    _difference(
        "C9a", "BRN on non-i.i.d. minibatches is as good as on i.i.d. ones", "brn-noniid{}",
        "brn-32", -1, remedy=True,
    ),
    _difference(
        "C9b", "the same, by normalization alone", "brn-noniid{}", "brn-shuffled{}", -1,
        remedy=True,
    ),
    _difference(
        "C9c", "and better than BN on them", "brn-noniid{}", "bn-noniid{}", remedy=True
    ),
    _few_clipped("C10a", "at the final bounds few r are clipped", "r", 5),
    _few_clipped("C10b", "and no d", "d", 0.1),
    Claim(
        "C11",
        "full bounds from the start at a high learning rate make the loss jump",
        f"loss spikes, {_FULL} - {_RAMPS} > 0",
        (_FULL, _RAMPS),
        _more_spikes,
        unit="spikes",
        remark=_first_losses,
        blind=_jumps_at_once,
    ),
    StepTime(
        "C12",
        "BRN runs at BN's speed",
        f"{StepTime.bar} - median time of a training step, BRN / BN > 0",
        ("brn-32", "bn-32"),
        lambda protocol, at: pd.Series(dtype=float),
        unit="ratio",
    ),
)  # fmt: skip
"""Claims C1 to C12, about the end of training."""


def _shown(name, text, arm, measure=VALIDATION):
    """Values of one arm, of which nothing is judged."""
    criterion = f"{arm} {MEASURES[measure]}".strip()
    numbers = final(arm, measure)
    if measure in CLIPPED.values():
        numbers = partial(_clipped, arm=arm, measure=measure)
    return Claim(name, text, criterion, (arm,), numbers, None, unit="%")


def _clipped(protocol, at, arm, measure):
    return finals(protocol, arm.format(at), measure, diverged_at=100)


STAGE = (
    *(
        _shown("E0", "the curves of figure 3", arm, measure)
        for arm, measure in (
            ("bn-noniid{}", MINIBATCH),
            ("bn-noniid{}", VALIDATION),
            ("bn-halves{}", VALIDATION),
            ("brn-noniid{}", VALIDATION),
            ("brn-32", VALIDATION),
            ("bn-32", VALIDATION),
        )
    ),
    Claim(
        "E1",
        "early, minibatch statistics do worse than averages",
        "bn-noniid{} - bn-noniid{} with minibatch statistics > 0",
        ("bn-noniid{}",),
        less(final("bn-noniid{}"), final("bn-noniid{}", MINIBATCH)),
    ),
    _difference(
        "E2", "halves gain next to nothing", "bn-halves{}", "bn-noniid{}", -1, below=2, of=""
    ),
    _difference("E3", "BRN already beats BN", "brn-noniid{}", "bn-noniid{}", of=""),
    _difference(
        "E4a", "and stays below its i.i.d. twin, the same images shuffled", "brn-shuffled{}",
        "brn-noniid{}", of="",
    ),
    _difference("E4b", "and below BRN-32", "brn-32", "brn-noniid{}", of=""),
)  # fmt: skip
"""The paper's figure 3 in its first 36 epochs."""


def _damage(normalization, depth=None):
    case = "{}" if depth is None else f"-depth{depth}"
    first, second = (f"{normalization}-{kind}{case}" for kind in ("shuffled", "noniid"))
    return gap(first, second), (first, second)


def _less_damage(first, second):
    """Criterion without its threshold, arms and numbers: one damage less another."""
    (more, arms), (fewer, others) = first, second
    words = " - ".join(f"({a} - {b})" for a, b in (arms, others))
    return words, (*arms, *others), less(more, fewer)


def _deeper(name, text, first, second):
    words, arms, numbers = _less_damage(first, second)
    return Claim(name, text, f"{words} > 0", arms, numbers)


_FITS = "the network fits its minibatches"

CHECKS = (
    _shown("M1", _FITS, "bn-32", IN_MINIBATCHES),
    _shown("M1", _FITS, "bn-shuffled{}", IN_MINIBATCHES),
    _shown("M1", _FITS, "bn-noniid{}", IN_MINIBATCHES),
    *(_shown("M1", _FITS, f"bn-shuffled-depth{depth}", IN_MINIBATCHES) for depth in EVERY_DEPTH),
    Claim(
        "M2", "the control pays for the gradient", "bn-32 - bn-shuffled{}",
        ("bn-32", "bn-shuffled{}"), gap("bn-32", "bn-shuffled{}"), None,
    ),
    *(
        _shown("M3", "the bounds clip", f"brn-{kind}{{}}", measure)
        for kind in ("noniid", "shuffled")
        for measure in CLIPPED.values()
    ),
    *(
        Claim("M4", text, f"{a} - {b}", (a, b), gap(a, b), None)
        for text, a, b in (
            ("what halves of 16 cost by their size", "bn-shuffled", "bn-shuffled-16"),
            ("what they give back beside that", "bn-halves", "bn-shuffled-16"),
        )
    ),
    Claim(
        "M5", "structure costs BRN less than BN",
        *_less_damage(_damage("bn"), _damage("brn")), None,
    ),
)  # fmt: skip
"""Whether the experiment does what it is meant to: values without a verdict."""


def _damage_shown(normalization, depth):
    numbers, (shuffled, noniid) = _damage(normalization, depth)
    text = f"damage to {normalization.upper()} at depth {depth}"
    return Claim("D0", text, f"{shuffled} - {noniid}", (shuffled, noniid), numbers, None)


def _over(depths):
    """The claims about networks of four depths; the last two are deep."""
    shallow, _, deep, deepest = depths
    deeper, shallower = _damage("bn", deepest), _damage("bn", shallow)
    more = "at depth {} it harms BN more than BRN"
    return (
        _deeper("D1", "depth makes it worse for BN", deeper, shallower),
        _deeper("D2", more.format(deepest), deeper, _damage("brn", deepest)),
        _difference("D3", f"at depth {deep} it harms BN", *_damage("bn", deep)[1], 2),
        _deeper("D4", more.format(deep), _damage("bn", deep), _damage("brn", deep)),
    )


KINDS = ("bn", "brn")
DEPTH = (
    *(_damage_shown(kind, depth) for kind in KINDS for depth in EVERY_DEPTH),
    *sum(map(_over, DEPTHS), ()),
)
"""What non-i.i.d. minibatches do in networks of 4 to 32 normalization layers."""
