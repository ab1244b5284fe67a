"""Gathers the results of a protocol: one tidy CSV, and a manifest of what should be there."""

import functools
import json

import pandas as pd

import files
from experiments.grid.arms import PAPER, Arm
from experiments.grid.runs import Run
from experiments.records.measures import Measure, parse
from experiments.records.store import DamagedError, Store

COLUMNS = ("run", "arm", "seed", "status", "step", "total_steps", *Measure._fields, "value")
_MAIN_MEASURE = "validation_accuracy_percent"
STRUCTURE = {
    "labels_per_minibatch", "images_per_label", "test_labels_per_minibatch", "test_images_per_label"
}  # fmt: skip
"""Settings that say how a class-structured minibatch is made."""


def collect(store: Store, runs: list[Run]) -> tuple[int, dict[str, str]]:
    """Writes `<protocol>.csv` and `<protocol>.json` for runs of one protocol.

    The CSV has one row a measurement, taken apart into what was measured and where
    (`measures.parse`). The manifest names every run that was asked for and, under `missing`, those
    without a result, so that whoever reads the CSV knows what is not in it. Of each arm it says in
    fields what its name only hints at (`describe_arm`), so that nobody need read names.

    Args:
        store: where the results are, and the two files go.
        runs: the runs of the grid that should be there.

    Returns:
        The number of results found, and the ids of the runs without one that can be used, with
        what is wrong with it, or "" if there is none.
    """
    found, missing = [], {}
    for run in runs:
        try:
            result = store.result(run)
        except DamagedError as error:
            missing[run.id] = str(error)
            continue
        if result is None:
            missing[run.id] = ""
        else:
            found.append(result)
    protocol = runs[0].protocol
    table = pd.DataFrame(_rows(found), columns=COLUMNS)
    files.write_csv(store.root / f"{protocol.name}.csv", table)
    manifest = json.dumps(_manifest(protocol, runs, found, missing), indent=1) + "\n"
    files.write(store.root / f"{protocol.name}.json", manifest)
    return len(found), missing


def _rows(results):
    taken_apart = functools.cache(parse)
    for result in results:
        config = result["config"]
        run = (result["id"], config["arm"], config["seed"], result["status"])
        for point in result["curve"]:
            # Where a run diverged there is a step and nothing to measure: an empty value says so.
            measured = {k: v for k, v in point.items() if k != "step"} or {_MAIN_MEASURE: None}
            for measure, value in measured.items():
                yield (*run, point["step"], config["total_steps"], *taken_apart(measure), value)


def _manifest(protocol, runs, results, missing):
    environments = sorted({_describe(result["environment"]) for result in results})
    return {
        "scale": protocol.name,
        "title": protocol.title,
        "classes": protocol.classes,
        "training_images": protocol.training_images,
        "notes": list(protocol.notes),
        "protocol": protocol.settings(),
        "seeds": sorted({run.seed for run in runs}),
        "arms": [describe_arm(run) for run in {run.arm.name: run for run in runs}.values()],
        "studies": list(_studies(protocol, runs)),
        "runs": [{"run": run.id, "arm": run.arm.name, "seed": run.seed} for run in runs],
        "missing": list(missing),
        "damaged": [run_id for run_id, damage in missing.items() if damage],
        "environment": environments,
        "core_hours": round(sum(map(core_hours, results)), 3),
    }


def describe_arm(run: Run) -> dict:
    """Returns what there is to know of a run's arm, in fields.

    Beside the arm's own: `labels` and `images`, how many labels a class-structured minibatch has
    and how many images of each, `None` for i.i.d. ones; `control`, the protocol's arm with the same
    images shuffled over the step before they are normalized, and `paper`, the paper's arm that
    this one repeats, each `None` if there is none.
    """
    arm, protocol = run.arm, run.effective_protocol
    names = ("section", "figure", "label", "sampling")
    structured = arm.sampling != "iid"
    return {
        "arm": arm.name,
        **{name: getattr(arm, name) for name in names},
        **arm.normalization.settings(),
        "labels": protocol.labels_per_minibatch if structured else None,
        "images": protocol.images_per_label if structured else None,
        "control": _control(arm, run.protocol.arms.values()),
        "paper": _counterpart(arm),
        "changes": dict(arm.changes),
    }


def _control(arm: Arm, arms) -> str | None:
    """The arm that is trained alike but that its minibatches are shuffled, and their groups."""
    if arm.sampling in ("iid", "shuffled"):
        return None

    def kept(arm):
        changes = {name: x for name, x in arm.changes.items() if not name.startswith("test_")}
        return arm.normalization.kind, arm.normalization.bounds, changes

    return next(
        (x.name for x in arms if x.sampling == "shuffled" and kept(x) == kept(arm)),
        None,
    )


def _counterpart(arm: Arm) -> str | None:
    """The paper's arm that an arm of one of its figures repeats, whatever its structure."""
    if not arm.changes.keys() <= STRUCTURE:
        return None
    same = ("figure", "normalization", "sampling")
    return next(
        (p.name for p in PAPER if all(getattr(p, name) == getattr(arm, name) for name in same)),
        None,
    )


def _studies(protocol, runs):
    """The studies as far as their arms and seeds are among the runs."""
    asked = {(run.arm.name, run.seed) for run in runs}
    for study in protocol.studies:
        pairs = [(a.name, seed) for a in study.arms for seed in study.seeds]
        pairs = [pair for pair in pairs if pair in asked]
        if pairs:
            yield {
                "name": study.name,
                "title": study.title,
                "arms": list(dict.fromkeys(name for name, _ in pairs)),
                "seeds": sorted({seed for _, seed in pairs}),
            }


def core_hours(result: dict) -> float:
    """Returns what a run took, in hours times the cores its process could use."""
    return result["wall_time_s"] * result["environment"]["cores"] / 3600


def _describe(environment):
    return (
        "{device}, {cores} core(s); Keras {keras} on {backend} {backend_version}, "
        "numpy {numpy}, Python {python}".format(**environment)
    )
