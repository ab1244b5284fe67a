"""The paper's claims as criteria: for each a number a seed, and a threshold it should be above.

They are those of `results/protocol-tiny-imagenet.md`, written before the runs. Where that leaves
something open, the reading that is hardest on the claim is taken, and said here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from paper_figures.load import MINIBATCH, OWN, TRAINING, VALIDATION, Scale
from paper_figures.statistics import Estimate, mean_interval, run_summaries, steps_to_reach

CHANCE = 0.5
"""The accuracy, in percent, that a diverged run counts with."""
SPIKES = "training_loss_spikes"


def finals(scale: Scale, arm: str, measure: str = VALIDATION, chance: float = CHANCE) -> pd.Series:
    """The last accuracy of each run of an arm, in percent, by seed; `chance` if it diverged."""
    return _but_diverged(run_summaries(scale.values(arm, measure))["final"], scale, arm, chance)


def _but_diverged(numbers, scale, arm, value):
    """The numbers by seed, with this value for each run that diverged, measured or not."""
    diverged = dict.fromkeys(scale.diverged(arm), value)
    return pd.Series({**numbers, **diverged}, dtype=float).sort_index()


def gap(first: str, second: str, measure: str = VALIDATION) -> Callable[[Scale, str], pd.Series]:
    """How far one arm ends above another, by seed; `{}` in a name stands for the structure."""
    return lambda scale, at: (
        finals(scale, first.format(at), measure) - finals(scale, second.format(at), measure)
    )


def steps_saved(scale: Scale, fast: str = "brn-4", slow: str = "bn-4") -> pd.Series:
    """By seed, how many steps before the end `fast` first reaches the final accuracy of `slow`.

    For a run that never does, and for one that diverged, whatever it had reached, it is minus the
    steps between two evaluations: later than the end.
    """
    values, saved = scale.values(fast), {}
    never = -int(values["step"].min()) if len(values) else 0
    for seed, target in finals(scale, slow).items():
        run = values[values["seed"] == seed]
        if seed in scale.diverged(fast):
            saved[seed] = never
        elif len(run):
            step = steps_to_reach(run["step"], run["value"], target)
            saved[seed] = never if step is None else scale.total_steps - step
    return pd.Series(saved, dtype=float)


def late_fall(scale: Scale, arm: str, measure: str = TRAINING) -> pd.Series:
    """By seed, the mean of the evaluations in the third quarter of the run, less the last one.

    0 for a run that diverged: chance level throughout.
    """
    values = scale.values(arm, measure)
    third = values[values["step"].between(scale.total_steps / 2, 0.75 * scale.total_steps, "right")]
    fall = third.groupby("seed")["value"].mean() - run_summaries(values)["final"]
    return _but_diverged(fall, scale, arm, 0)


def won_back(first: pd.Series, damaged: pd.Series, whole: pd.Series) -> pd.Series:
    """How far `first` is above the middle between `damaged` and `whole`, by seed."""
    return first - (damaged + whole) / 2


def room_below(scale: Scale, arm: str, measure: str, most: float) -> pd.Series:
    """By seed, `most` less the last value in percent; of a diverged run this is 100 percent."""
    last = run_summaries(scale.values(arm, measure))["final"]
    return most - _but_diverged(last, scale, arm, 100)


def spikes(scale: Scale, arms: tuple[str, ...]) -> dict[str, pd.Series]:
    """Loss spikes of each run of these arms, by arm and seed.

    A run that diverged has one more than the most that was counted in any run of the arms.
    """
    counted = {arm: scale.values(arm, SPIKES).groupby("seed")["value"].sum() for arm in arms}
    most = max((series.max() for series in counted.values() if len(series)), default=0.0)
    return {arm: _but_diverged(s, scale, arm, most + 1) for arm, s in counted.items()}


def _more_spikes(scale, at):
    arms = ("brn-32-fast-full", "brn-32-fast")
    full, ramps = spikes(scale, arms).values()
    return full - ramps


@dataclass(frozen=True)
class Claim:
    """A claim and its criterion: `numbers` is above `threshold`.

    Attributes:
        name: Such as C3b.
        text: The claim.
        criterion: In words; `{}` stands for the structure of the minibatches in arms' names.
        arms: The arms that the criterion compares.
        numbers: From a scale and a structure to a number a seed.
        threshold: In the unit of the numbers.
        unit: Of the numbers.
        needs_damage: Whether the claim only means something where C5b is reproduced.
        assumes_damage: Whether it says less where C5b is not; that changes no verdict.
    """

    name: str
    text: str
    criterion: str
    arms: tuple[str, ...]
    numbers: Callable[[Scale, str], pd.Series]
    threshold: float = 0.0
    unit: str = "points"
    needs_damage: bool = False
    assumes_damage: bool = False

    @property
    def structured(self) -> bool:
        """Whether it is judged for each structure of non-i.i.d. minibatches."""
        return any("{}" in arm for arm in self.arms)

    def estimate(self, scale: Scale, structure: str = OWN) -> Estimate:
        """Estimate the mean of the numbers over the seeds that all its arms have."""
        return mean_interval(self.numbers(scale, structure).dropna())


def _difference(name, text, first, second, threshold=0.0, measure=VALIDATION, **more):
    of = {VALIDATION: "final", TRAINING: "final training accuracy,"}[measure]
    criterion = f"{of} {first} - {second} > {threshold:g}"
    arms, numbers = (first, second), gap(first, second, measure)
    return Claim(name, text, criterion, arms, numbers, threshold, **more)


CLAIMS = (
    _difference("C1", "BRN-32 is as good as BN-32", "brn-32", "bn-32", -1),
    _difference("C2", "BN-4 is clearly worse than BN-32", "bn-32", "bn-4", 1),
    _difference("C3a", "BRN-4 beats BN-4", "brn-4", "bn-4"),
    Claim(
        "C3b",
        "BRN-4 gets to BN-4's final accuracy in fewer steps",
        "steps of the run - first evaluated step at which brn-4 reaches the end of bn-4 > 0",
        ("brn-4", "bn-4"),
        lambda scale, at: steps_saved(scale),
        unit="steps",
    ),
    _difference("C4", "BRN-4 stays below BRN-32", "brn-32", "brn-4"),
    _difference("C5a", "non-i.i.d. sampling hurts BN badly", "bn-32", "bn-noniid{}", 2),
    _difference("C5b", "and that by its normalization", "bn-shuffled{}", "bn-noniid{}", 2),
    _difference(
        "C6a",
        "training images in inference mode suffer too",
        "bn-shuffled{}",
        "bn-noniid{}",
        2,
        TRAINING,
        needs_damage=True,
    ),
    Claim(
        "C6b",
        "and their accuracy falls late",
        "training accuracy of bn-noniid{}, mean of the third quarter - final > 0",
        ("bn-noniid{}",),
        lambda scale, at: late_fall(scale, f"bn-noniid{at}"),
    ),
    Claim(
        "C7",
        "minibatch statistics on structured test minibatches give most of it back",
        "bn-noniid{} with minibatch statistics - (bn-noniid{} + bn-shuffled{}) / 2 > 0",
        ("bn-noniid{}", "bn-shuffled{}"),
        lambda scale, at: won_back(
            finals(scale, f"bn-noniid{at}", MINIBATCH),
            finals(scale, f"bn-noniid{at}"),
            finals(scale, f"bn-shuffled{at}"),
        ),
        needs_damage=True,
    ),
    Claim(
        "C8a",
        "halves give most of it back",
        "bn-halves{} - (bn-noniid{} + bn-shuffled{}) / 2 > 0",
        ("bn-halves{}", "bn-noniid{}", "bn-shuffled{}"),
        lambda scale, at: won_back(
            *(finals(scale, f"bn-{kind}{at}") for kind in ("halves", "noniid", "shuffled"))
        ),
        needs_damage=True,
    ),
    _difference("C8b", "and stay below BN-32", "bn-32", "bn-halves{}", assumes_damage=True),
    _difference("C8c", "and that by their normalization", "bn-shuffled{}", "bn-halves{}"),
    _difference(
        "C9a", "BRN on non-i.i.d. minibatches is as good as on i.i.d. ones", "brn-noniid{}",
        "brn-32", -1, assumes_damage=True,
    ),
    _difference(
        "C9b", "the same, by normalization alone", "brn-noniid{}", "brn-shuffled{}", -1,
        assumes_damage=True,
    ),
    _difference("C9c", "and better than BN on them", "brn-noniid{}", "bn-noniid{}"),
    Claim(
        "C10a",
        "at the final bounds few r are clipped",
        "5 - percent of r clipped, brn-32, last evaluation > 0",
        ("brn-32",),
        lambda scale, at: room_below(scale, "brn-32", "r_clipped_percent", 5),
    ),
    Claim(
        "C10b",
        "and no d",
        "0.1 - percent of d clipped, brn-32, last evaluation > 0",
        ("brn-32",),
        lambda scale, at: room_below(scale, "brn-32", "d_clipped_percent", 0.1),
    ),
    Claim(
        "C11",
        "full bounds from the start at a high learning rate make the loss jump",
        "loss spikes, brn-32-fast-full - brn-32-fast > 0",
        ("brn-32-fast-full", "brn-32-fast"),
        _more_spikes,
        unit="spikes",
    ),
)  # fmt: skip
