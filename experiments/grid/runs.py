"""The grid of runs: a named run for each arm of a scale and each seed.

An *arm* (`arms.py`) is a way to normalize and to sample; a *scale* (`protocols.py`) is a data set,
a network and a protocol. A run is an arm at a scale with a seed: `digits-brn-4-s0`.
"""

import dataclasses
from dataclasses import dataclass

from experiments.grid.arms import Arm
from experiments.grid.protocols import MINIBATCH, SCALES, Scale


@dataclass(frozen=True)
class Run:
    """One arm at one scale with one seed."""

    scale: Scale
    arm: Arm
    seed: int

    @property
    def protocol(self) -> Scale:
        """The scale, with what the arm changes in it."""
        return dataclasses.replace(self.scale, **self.arm.changes)

    @property
    def id(self) -> str:
        """The run's name, and its result file's: `<scale>-<arm>-s<seed>`."""
        return f"{self.scale.name}-{self.arm.name}-s{self.seed}"

    def config(self) -> dict:
        """Returns all that decides what the run computes: a flat dict, ready for JSON."""
        return {
            "scale": self.scale.name,
            "arm": self.arm.name,
            "seed": self.seed,
            "normalization": self.arm.normalization,
            "bounds": self.arm.bounds,
            "group": self.arm.group,
            "sampling": self.arm.sampling,
            "minibatch_statistics": self.arm.minibatch_statistics,
            "minibatch_size": MINIBATCH,
            "total_steps": self.protocol.steps,
            **({"measurements": list(self.arm.measurements)} if self.arm.measurements else {}),
            **{k: v for k, v in self.protocol.settings().items() if k != "steps"},
        }


def scale(name: str) -> Scale:
    """Returns the scale of this name, or raises a `ValueError` that lists them."""
    return _named("--scale", name, {scale.name: scale for scale in SCALES})


def runs(scale_name: str, arms=None, seeds=None, studies=None) -> list[Run]:
    """Returns the runs of a scale, study by study and arm by arm, each once.

    Args:
        scale_name: name of the scale.
        arms: names of arms, all by default.
        seeds: seeds, those of the study by default.
        studies: names of studies, all by default.

    Raises:
        ValueError: for a name that is not in the grid, or a negative seed.
    """
    chosen = scale(scale_name)
    for seed in seeds or ():
        if seed < 0:
            raise ValueError(f"Expected seeds from 0 upwards. Received: --seeds {seed}")
    by_name = {study.name: study for study in chosen.studies}
    selected = [_named("--studies", name, by_name) for name in (studies or by_name)]
    found = {
        (arm.name, seed): Run(chosen, arm, seed)
        for study in selected
        for arm in study.arms
        for seed in (study.seeds if seeds is None else seeds)
    }
    names = list(dict.fromkeys(name for name, _ in found))
    if arms:
        names = [_named("--arms", name, {known: known for known in names}) for name in arms]
    return [run for name in names for run in found.values() if run.arm.name == name]


def _named(option, name, known):
    if name not in known:
        raise ValueError(f"Expected {option} from {', '.join(known)}. Received: {option} {name}")
    return known[name]
