"""What criteria compare: one number a run, by seed.

Where a protocol leaves something open, the reading that is hardest on the claim is taken, and said
here.
"""

from collections.abc import Callable

import pandas as pd

from paper_figures.load import MINIBATCH, TRAINING, VALIDATION, Protocol
from paper_figures.statistics import steps_to_reach

IN_MINIBATCHES = "training_minibatch_accuracy_percent"
SPIKES = "training_loss_spikes"
LARGEST_LOSS = "training_loss_max"
CLIPPED = {"r": "r_clipped_percent", "d": "d_clipped_percent"}
MEASURES = {
    VALIDATION: "",
    TRAINING: "on training images",
    MINIBATCH: "with minibatch statistics",
    IN_MINIBATCHES: "in training mode",
    CLIPPED["r"]: "percent of r clipped",
    CLIPPED["d"]: "percent of d clipped",
}
"""How a measure is named after an arm."""


def finals(
    protocol: Protocol, arm: str, measure: str = VALIDATION, diverged_at: float | None = None
) -> pd.Series:
    """The last accuracy of each run of an arm, in percent, by seed.

    A run that diverged counts with `diverged_at`, by default the level of chance.
    """
    ends = _last(protocol.values(arm, measure))
    if diverged_at is None and protocol.diverged(arm):
        diverged_at = protocol.chance
    return _but_diverged(ends, protocol, arm, diverged_at)


def _last(values):
    return values.groupby("seed")["value"].last()


def _but_diverged(numbers, protocol, arm, value):
    """The numbers by seed, with this value for each run that diverged, measured or not."""
    diverged = dict.fromkeys(protocol.diverged(arm), value)
    return pd.Series({**numbers, **diverged}, dtype=float).sort_index()


Numbers = Callable[[Protocol, str], pd.Series]
"""From a protocol and a structure of minibatches, the end of an arm's name, to a number a seed."""


def final(arm: str, measure: str = VALIDATION) -> Numbers:
    """How an arm ends, by seed; `{}` in a name stands for the structure."""
    return lambda protocol, at: finals(protocol, arm.format(at), measure)


def gap(first: str, second: str, measure: str = VALIDATION) -> Numbers:
    """How far one arm ends above another, by seed."""
    return less(final(first, measure), final(second, measure))


def less(first: Numbers, second: Numbers) -> Numbers:
    """One number less another, by seed."""
    return lambda protocol, at: first(protocol, at) - second(protocol, at)


def won_back(first: Numbers, damaged: Numbers, whole: Numbers) -> Numbers:
    """How far `first` is above the middle between `damaged` and `whole`, by seed."""
    return lambda protocol, at: (
        first(protocol, at) - (damaged(protocol, at) + whole(protocol, at)) / 2
    )


def steps_saved(protocol: Protocol, fast: str = "brn-4", slow: str = "bn-4") -> pd.Series:
    """By seed, how many steps before the end `fast` first reaches the final accuracy of `slow`.

    For a run that never does, and for one that diverged, whatever it had reached, it is minus the
    steps between two evaluations: later than the end.
    """
    values, saved = protocol.values(fast), {}
    never = -int(values["step"].min()) if len(values) else 0
    for seed, target in finals(protocol, slow).items():
        run = values[values["seed"] == seed]
        if seed in protocol.diverged(fast):
            saved[seed] = never
        elif len(run):
            step = steps_to_reach(run["step"], run["value"], target)
            saved[seed] = never if step is None else protocol.total_steps - step
    return pd.Series(saved, dtype=float)


def late_fall(protocol: Protocol, arm: str, measure: str = TRAINING) -> pd.Series:
    """By seed, the mean of the evaluations in the third quarter of the run, less the last one.

    0 for a run that diverged: chance level throughout.
    """
    values = protocol.values(arm, measure)
    third = values[
        values["step"].between(protocol.total_steps / 2, 0.75 * protocol.total_steps, "right")
    ]
    fall = third.groupby("seed")["value"].mean() - _last(values)
    return _but_diverged(fall, protocol, arm, 0)


def clipped(protocol: Protocol, arm: str, what: str) -> pd.Series:
    """By seed, the percent of "r" or "d" clipped at the last evaluation; 100 if it diverged."""
    return finals(protocol, arm, CLIPPED[what], diverged_at=100)


def spikes(protocol: Protocol, arms: tuple[str, ...]) -> dict[str, pd.Series]:
    """Loss spikes of each run of these arms, by arm and seed.

    A run that diverged has one more than the most that was counted in any run of the arms.
    """
    counted = {arm: protocol.values(arm, SPIKES).groupby("seed")["value"].sum() for arm in arms}
    most = max((series.max() for series in counted.values() if len(series)), default=0.0)
    return {arm: _but_diverged(s, protocol, arm, most + 1) for arm, s in counted.items()}


def first_losses(protocol: Protocol, arm: str) -> pd.Series:
    """By seed, the largest training loss of a step up to the first evaluation.

    Only of runs in which no spike was counted up to there: a jump then lies within the first 50
    steps, in which none can be counted.
    """
    first = {
        measure: protocol.values(arm, measure).groupby("seed")["value"].first()
        for measure in (LARGEST_LOSS, SPIKES)
    }
    return first[LARGEST_LOSS][first[SPIKES].reindex(first[LARGEST_LOSS].index) == 0]
