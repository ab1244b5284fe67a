"""The grid of runs: a named run for each arm of a protocol and each seed.

An *arm* (`arms.py`) is a way to normalize and to sample; a *protocol* (`protocols/`) is a data
set, a network and how it is trained. A run is an arm in a protocol with a seed: `digits-brn-4-s0`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.grid import toml
from experiments.grid.arms import Arm
from experiments.grid.protocols import MINIBATCH, PROTOCOLS, Protocol
from experiments.grid.settings import nearest


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
    def steps(self) -> int:
        """Training steps of the run."""
        return self.effective_protocol.steps

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
            **self.arm.normalization.settings(),
            "sampling": self.arm.sampling,
            "minibatch_statistics": self.arm.minibatch_statistics,
            "minibatch_size": MINIBATCH,
            "total_steps": self.steps,
            **({"measurements": list(self.arm.measurements)} if self.arm.measurements else {}),
            **{k: v for k, v in self.effective_protocol.settings().items() if k != "steps"},
        }


def protocol_named(name: str, settings: Sequence[str] = ()) -> Protocol:
    """Returns the protocol of this name, or of this file, which ends in `.toml`.

    Args:
        name: of a protocol, or a path.
        settings: `name=value`, changes for a quick try.

    Raises:
        ValueError: for another name, a file that is no protocol, or a setting that cannot be.
    """
    if name.endswith(".toml"):
        protocol = toml.read(name)
    else:
        builtin = {protocol.name: protocol for protocol in PROTOCOLS}
        protocol = _named("--protocol", name, builtin)
    return toml.with_settings(protocol, settings)


def select_runs(protocol: str | Protocol, arms=None, seeds=None, studies=None) -> list[Run]:
    """Returns the runs of a protocol, study by study and arm by arm, each once.

    Args:
        protocol: a protocol, or its name.
        arms: names of arms, all by default.
        seeds: seeds, those of the study by default.
        studies: names of studies, all by default.

    Raises:
        ValueError: for a name that is not in the grid, or a negative seed.
    """
    chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
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
        raise ValueError(
            f"Expected {option} from {', '.join(known)}. Received: {option} {name}. "
            f"{nearest(name, known)}"
        )
    return known[name]
