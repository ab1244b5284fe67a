"""Gathers the results of a protocol: one tidy CSV, and a manifest of what should be there."""

import io
import json

import pandas as pd

from experiments.grid.runs import Run
from experiments.records.store import Store, write_text

COLUMNS = ("run", "arm", "seed", "status", "step", "total_steps", "measure", "value")
_MAIN_MEASURE = "validation_accuracy_percent"


def collect(store: Store, runs: list[Run]) -> tuple[int, list[str]]:
    """Writes `<protocol>.csv` and `<protocol>.json` for runs of one protocol.

    The CSV has one row a measurement; the manifest names every run that was asked for and, under
    `missing`, those without a result, so that whoever reads the CSV knows what is not in it.

    Args:
        store: where the results are, and the two files go.
        runs: the runs of the grid that should be there.

    Returns:
        The number of results found, and the ids of the runs without one.

    Raises:
        ValueError: if a result was made with another configuration than the grid's.
    """
    results = {run.id: store.result(run) for run in runs}
    missing = [name for name, result in results.items() if result is None]
    found = [result for result in results.values() if result is not None]
    table = io.StringIO()
    pd.DataFrame(_rows(found), columns=COLUMNS).to_csv(table, index=False, lineterminator="\n")
    protocol = runs[0].protocol
    write_text(store.root / f"{protocol.name}.csv", table.getvalue())
    manifest = json.dumps(_manifest(protocol, runs, found, missing), indent=1) + "\n"
    write_text(store.root / f"{protocol.name}.json", manifest)
    return len(found), missing


def _rows(results):
    for result in results:
        config = result["config"]
        run = (result["id"], config["arm"], config["seed"], result["status"])
        for point in result["curve"]:
            # Where a run diverged there is a step and nothing to measure: an empty value says so.
            measured = {k: v for k, v in point.items() if k != "step"} or {_MAIN_MEASURE: None}
            for measure, value in measured.items():
                yield (*run, point["step"], config["total_steps"], measure, value)


def _manifest(protocol, runs, results, missing):
    arms = {run.arm.name: run.arm for run in runs}
    environments = sorted({_describe(result["environment"]) for result in results})
    return {
        "scale": protocol.name,
        "title": protocol.title,
        "notes": list(protocol.notes),
        "protocol": protocol.settings(),
        "seeds": sorted({run.seed for run in runs}),
        "arms": [_arm(arm) for arm in arms.values()],
        "studies": list(_studies(protocol, runs)),
        "runs": [run.id for run in runs],
        "missing": missing,
        "environment": environments,
        "core_hours": round(sum(map(core_hours, results)), 3),
    }


def _arm(arm):
    normalization = arm.normalization.settings()
    return {
        "arm": arm.name,
        "section": arm.section,
        "figure": arm.figure,
        "label": arm.label,
        "normalization": normalization["normalization"],
        "group": normalization["group"],
        "sampling": arm.sampling,
        "bounds": normalization["bounds"],
        "changes": dict(arm.changes),
    }


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
