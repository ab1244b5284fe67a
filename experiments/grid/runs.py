"""The grid of runs: a named run for each arm of a protocol and each seed.

An *arm* (`arms.py`) is a way to normalize and to sample; a *protocol* (`protocols.py`) is a data
set, a network and how it is trained. A run is an arm in a protocol with a seed: `digits-brn-4-s0`.
"""

import dataclasses
from dataclasses import dataclass

from experiments.grid.arms import Arm
from experiments.grid.protocols import MINIBATCH, PROTOCOLS, Protocol


@dataclass(frozen=True)
class Run:
    """One arm in one protocol with one seed."""

    protocol: Protocol
    arm: Arm
    seed: int

    @property
    def effective_protocol(self) -> Protocol:
        """The protocol, with what the arm changes in it."""
        return dataclasses.replace(self.protocol, **self.arm.changes)

    @property
    def id(self) -> str:
        """The run's name, and its result file's: `<protocol>-<arm>-s<seed>`."""
        return f"{self.protocol.name}-{self.arm.name}-s{self.seed}"

    def config(self) -> dict:
        """Returns all that decides what the run computes: a flat dict, ready for JSON."""
        return {
            "scale": self.protocol.name,
            "arm": self.arm.name,
            "seed": self.seed,
            "normalization": self.arm.normalization,
            "bounds": self.arm.bounds,
            "group": self.arm.group,
            "sampling": self.arm.sampling,
            "minibatch_statistics": self.arm.minibatch_statistics,
            "minibatch_size": MINIBATCH,
            "total_steps": self.effective_protocol.steps,
            **({"measurements": list(self.arm.measurements)} if self.arm.measurements else {}),
            **{k: v for k, v in self.effective_protocol.settings().items() if k != "steps"},
        }


def protocol_named(name: str) -> Protocol:
    """Returns the protocol of this name, or raises a `ValueError` that lists them."""
    return _named("--protocol", name, {protocol.name: protocol for protocol in PROTOCOLS})


def select_runs(protocol_name: str, arms=None, seeds=None, studies=None) -> list[Run]:
    """Returns the runs of a protocol, study by study and arm by arm, each once.

    Args:
        protocol_name: name of the protocol.
        arms: names of arms, all by default.
        seeds: seeds, those of the study by default.
        studies: names of studies, all by default.

    Raises:
        ValueError: for a name that is not in the grid, or a negative seed.
    """
    chosen = protocol_named(protocol_name)
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
