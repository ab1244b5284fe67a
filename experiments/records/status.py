"""How far the runs of a protocol are: what is done, what remains, and how long that takes."""

import statistics
from dataclasses import dataclass

from experiments.grid.runs import Run
from experiments.records.checks import STATUSES as ENDED
from experiments.records.collect import core_hours
from experiments.records.store import DamagedError, Store

FEW = 24
"""Up to so many runs are listed one by one without being asked."""
STATES = (*ENDED, "running", "interrupted", "damaged", "to do")


@dataclass(frozen=True)
class Progress:
    """How far one run is.

    Attributes:
        state: one of `STATES`.
        step: of the result or of the last checkpoint.
        seconds: spent so far, as far as it is saved.
        core_hours: the same in hours times cores; 0 without a result, which says how many cores.
        damage: of a damaged run, which file, what is wrong with it, and the way out.
    """

    state: str
    step: int
    seconds: float
    core_hours: float = 0.0
    damage: str = ""


def progress(store: Store, run: Run) -> Progress:
    """Returns how far a run is; reads, and writes nothing."""
    try:
        result = store.result(run)
        if result is not None:
            step, seconds = result["curve"][-1]["step"], result["wall_time_s"]
            return Progress(result["status"], step, seconds, core_hours(result))
        running = store.is_locked(run)
        if running:  # whoever trains it has checked the arrays, and replaces them
            notes = store.checkpoint_notes(run)
        else:
            notes, _ = store.checkpoint(run) or (None, None)
    except DamagedError as error:
        return Progress("damaged", 0, 0.0, damage=str(error))
    state = "running" if running else "interrupted" if notes else "to do"
    return Progress(state, *((notes["step"], notes["wall_time_s"]) if notes else (0, 0.0)))


def survey(store: Store, runs: list[Run]) -> dict[Run, Progress]:
    """Returns how far each of the runs is."""
    return {run: progress(store, run) for run in runs}


def describe(states: dict[Run, Progress], verbose: bool = False) -> str:
    """Returns the status of runs of one protocol in words, a line a study.

    Args:
        states: how far the runs are, as `survey` finds it.
        verbose: whether to list every run; `FEW` runs are listed anyway, and those under way.
    """
    runs = list(states)
    protocol = runs[0].protocol
    listed = [
        run
        for run, at in states.items()
        if verbose or len(runs) <= FEW or at.state not in ("finished", "to do")
    ]
    lines = [f"  {run.id:44} {_describe_run(run, states[run])}" for run in listed]
    if len(listed) < len(runs):
        lines += _studies(protocol, states)
    return "\n".join([*lines, summary(states)])


def _describe_run(run, at):
    if at.damage:
        return f"{at.state}: {at.damage}"
    if at.state in ENDED or not at.step:
        return at.state
    return f"{at.state}, checkpoint at step {at.step} of {run.steps}"


def _studies(protocol, states):
    """One line a study; a run of several studies counts in each."""
    by_key = {(run.arm.name, run.seed): at for run, at in states.items()}
    for study in protocol.studies:
        keys = ((arm.name, seed) for arm in study.arms for seed in study.seeds)
        found = [by_key[key] for key in keys if key in by_key]
        if found:
            yield f"  {study.name:12} {_count(found):44} {study.title}"


def _count(found):
    counts = {state: sum(at.state == state for at in found) for state in STATES}
    ended = sum(counts[state] for state in ENDED)
    under_way = [f"{counts[state]} {state}" for state in STATES[1:-1] if counts[state]]
    return ", ".join([f"{ended:3} of {len(found):3} have ended", *under_way])


def summary(states: dict[Run, Progress]) -> str:
    """Returns how many of the runs of one protocol have ended, and what they and the rest cost."""
    return "\n".join(_summary(states))


def _summary(states):
    protocol, every = next(iter(states)).protocol, list(states.values())
    ended = [at for at in every if at.state in ENDED]
    spent = sum(at.core_hours for at in ended)
    yield (
        f"{protocol.name}: {len(ended)} of {len(every)} runs have ended"
        + (f", {sum(at.state == 'diverged' for at in ended)} of them diverged" if ended else "")
        + f"; {spent:.2f} core-hours spent on them."
    )
    damaged = sum(at.state == "damaged" for at in every)
    if damaged:
        yield f"{damaged} of the others cannot be read: `status` names the files and the way out."
    left = sum(run.steps - at.step for run, at in states.items() if at.state not in ENDED)
    if left and ended:
        hours = left * statistics.median(at.seconds / at.step for at in ended) / 3600
        cores = spent / (sum(at.seconds for at in ended) / 3600)
        yield (
            f"The rest takes about {hours:.1f} hours one after another, at the pace of the others: "
            f"{hours * cores:.1f} core-hours."
        )
    elif left:
        yield f"The rest is {left:,} steps; no run has ended yet to tell how long they take."
