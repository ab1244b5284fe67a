"""The format of the files in a folder of results, and what is refused because it does not fit."""

import json
from pathlib import Path

import pandas as pd

REPOSITORY_RESULTS = Path(__file__).resolve().parents[1] / "results"

VALIDATION = "validation_accuracy_percent"
TRAINING = "training_accuracy_percent"
MINIBATCH = "minibatch_statistics_accuracy_percent"
ACCURACY_ON = {
    "validation": VALIDATION,
    "training images, inference mode": TRAINING,
    "validation, minibatch statistics on structured minibatches": MINIBATCH,
}
TRAINING_MODE = "training_minibatch_accuracy_percent"
COLUMNS = ("run", "arm", "seed", "status", "step", "total_steps", "measure", "where", "at", "value")
MANIFEST_KEYS = ("scale", "title", "notes", "protocol", "classes", "training_images", "seeds",
                 "arms", "studies", "runs", "missing", "environment", "core_hours")  # fmt: skip
ARM_KEYS = ("arm", "label", "normalization", "group", "sampling", "bounds", "labels", "images",
            "control", "paper", "changes")  # fmt: skip
PAPER_COLUMNS = ("row", "arm", "measure", "value_percent", "step", "section", "figure", "note",
                 "source")  # fmt: skip
PAPER_CURVE_COLUMNS = ("figure", "arm", "accuracy_on", "step", "accuracy_percent")


class ResultsError(ValueError):
    """Results that are absent, incomplete or not in the documented format."""


def csv_of(results, name):
    """Where the table of a protocol is."""
    return results / f"{name}.csv"


def how_to_make(name):
    """Say with which commands the files of a protocol are made."""
    return (
        f"Make them with `python -m experiments run --protocol {name}` and then "
        f"`python -m experiments collect --protocol {name}`."
    )


def read_csv(path, columns, remedy):
    """Read a table that must have these columns, or raise a `ResultsError` with the remedy."""
    types = {"seed": int, "total_steps": int, "value": float, "where": str, "at": str}
    try:
        rows = pd.read_csv(path, dtype=types).fillna(dict.fromkeys(("where", "at"), ""))
    except FileNotFoundError:
        raise ResultsError(f"Expected the file {path}; it does not exist. {remedy}") from None
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise ResultsError(f"{path} is not a readable CSV file ({error}). {remedy}") from error
    if sorted(rows.columns) != sorted(columns):
        raise ResultsError(
            f"{path} should have the columns {','.join(columns)}. "
            f"Received: columns={','.join(rows.columns)}. {remedy}"
        )
    return rows


def read_paper_csv(results, name, columns):
    """Read one of the paper's tables from `results`, or else from the repository's results."""
    folder = results if (results / name).exists() else REPOSITORY_RESULTS
    return read_csv(folder / name, columns, "It is part of the repository: restore it.")


def read_manifest(path, name):
    """Read the manifest of a protocol, which must have all keys, this name and some run."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"Expected {path}; it does not exist. {how_to_make(name)}") from None
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON ({error}). {how_to_make(name)}") from error
    absent = [key for key in MANIFEST_KEYS if key not in manifest]
    absent += [key for key in ARM_KEYS if any(key not in arm for arm in manifest.get("arms", []))]
    if absent:
        raise ResultsError(
            f"{path} should have the keys {', '.join(MANIFEST_KEYS)}, and each arm "
            f"{', '.join(ARM_KEYS)}. Received: no {', '.join(absent)}. Collect the protocol again."
        )
    if manifest["scale"] != name:
        raise ResultsError(
            f"{path} should describe the protocol {name!r}. Received: scale={manifest['scale']!r}. "
            "Name the file after its protocol."
        )
    if not manifest["runs"]:
        raise ResultsError(
            f"{path} should expect at least one run. Received: runs=[]. {how_to_make(name)}"
        )
    return manifest


def check_rows(path, name, rows):
    """Hold the rows against the format; return one row a run."""
    status, value = rows["status"], rows["value"]
    ids = name + "-" + rows["arm"] + "-s" + rows["seed"].astype(str)
    percent = rows["measure"].str.endswith("_percent") & value.notna()
    repeated = rows.duplicated(["run", "step", "measure", "where", "at"])
    unmeasured = ~rows["run"].isin(rows.loc[rows["measure"] == VALIDATION, "run"])
    differing = rows.groupby("run")["status"].transform("nunique") > 1
    total_steps = rows["total_steps"]
    checks = (
        ("status", ~status.isin(["finished", "diverged"]), "should be finished or diverged"),
        ("run", rows["run"] != ids, f"should read {name}-<arm>-s<seed>"),
        ("run", repeated, "should have one value a step, measure and place"),
        ("run", unmeasured, f"should have the measure {VALIDATION}"),
        ("run", differing, "should have one status"),
        ("run", value.isna() & (status == "finished"), "may lack a value only if it diverged"),
        ("value", percent & ~value.between(0, 100), "should lie between 0 and 100 if in percent"),
        ("total_steps", total_steps != total_steps.iloc[0], "should be the same in every run"),
    )
    for column, wrong, expected in checks:
        if wrong.any():
            found = ", ".join(sorted(set(rows.loc[wrong, column].astype(str))))
            raise ResultsError(
                f"{path}: {column} {expected}. Received: {column}={found}. "
                "Collect the protocol again."
            )
    return rows[["run", "arm", "seed", "status"]].drop_duplicates().set_index("run")
