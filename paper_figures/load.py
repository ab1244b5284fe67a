"""Read the collected results and the paper's numbers, and refuse what does not fit together.

Nothing is computed here: a `Protocol` holds what `python -m experiments collect` wrote, a `Paper`
what the paper reports.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from paper_figures.formats import (
    ACCURACY_ON,
    COLUMNS,
    MINIBATCH,
    PAPER_COLUMNS,
    PAPER_CURVE_COLUMNS,
    REPOSITORY_RESULTS,
    TRAINING,
    TRAINING_MODE,
    VALIDATION,
    ResultsError,
    check_rows,
    csv_of,
    how_to_make,
    read_csv,
    read_manifest,
    read_paper_csv,
)

MINIBATCH_SIZE = 32
_SHOWN = ("seed", "status", "step", "value")
OWN = ""
"""The structure of the protocol's own non-i.i.d. minibatches, as the end of an arm's name."""

__all__ = [
    "COLUMNS",
    "MINIBATCH",
    "OWN",
    "REPOSITORY_RESULTS",
    "TRAINING",
    "TRAINING_MODE",
    "VALIDATION",
    "Paper",
    "Protocol",
    "Results",
    "ResultsError",
    "describe_runs",
    "find_protocols",
    "load",
    "load_paper",
    "load_protocol",
]


@dataclass(frozen=True)
class Protocol:
    """One protocol's collected runs.

    Attributes:
        manifest: The contents of `<protocol>.json`: title, notes, protocol, arms, studies, the runs
            that are missing, ...
        runs: One row a run, indexed by run id: `arm`, `seed`, `status` ("finished" or "diverged").
        measurements: One row a finite measurement, with the columns `COLUMNS`.
        total_steps: Training steps of every run.
    """

    manifest: dict
    runs: pd.DataFrame
    measurements: pd.DataFrame
    total_steps: int

    @property
    def name(self) -> str:
        """The protocol's name, e.g. `digits`."""
        return self.manifest["scale"]

    @property
    def settings(self) -> dict:
        """The settings that all arms share but for what an arm changes."""
        return self.manifest["protocol"]

    def epochs(self, step: int | None = None) -> float:
        """How often a run has seen each training image by a step, by default its last."""
        step = self.total_steps if step is None else step
        images = step * self.settings["workers"] * MINIBATCH_SIZE
        return images / self.manifest["training_images"]

    @property
    def chance(self) -> float:
        """The accuracy of guessing, in percent."""
        return 100 / self.manifest["classes"]

    @property
    def labels(self) -> dict[str, str]:
        """The arms the manifest expects, in its order, with their labels."""
        return {arm["arm"]: arm["label"] for arm in self.manifest["arms"]}

    @property
    def arms(self) -> dict[str, dict]:
        """The arms the manifest expects, in its order, with all that it says of them."""
        return {arm["arm"]: arm for arm in self.manifest["arms"]}

    def find(self, **fields) -> list[str]:
        """The arms of which the manifest says all this, in its order."""
        return [name for name, arm in self.arms.items() if fields.items() <= arm.items()]

    def setting(self, arm: str, name: str):
        """A setting of an arm: its own field, what it changes, or the protocol's; else `None`."""
        about = self.arms[arm]
        return (self.settings | about | about["changes"]).get(name)

    @property
    def missing(self) -> dict[str, list[int]]:
        """The seeds of the runs that have no result yet, by arm, in the manifest's order."""
        missing, absent = {}, set(self.manifest["missing"])
        for run in self.manifest["runs"]:
            if run["run"] in absent:
                missing.setdefault(run["arm"], []).append(run["seed"])
        return missing

    @property
    def structures(self) -> dict[str, str]:
        """The structures of non-i.i.d. minibatches for which the paper's arms are run.

        What an arm's name ends with (`OWN`, or such as `-4x8`) -> such as `4 x 8`.
        """
        own = (self.settings["labels_per_minibatch"], self.settings["images_per_label"])
        structures = {OWN: own}
        for name in self.find(paper="bn-halves"):
            about = self.arms[name]
            structures[name.removeprefix(about["paper"])] = about["labels"], about["images"]
        return {ending: f"{labels} x {images}" for ending, (labels, images) in structures.items()}

    def study(self, name: str) -> dict | None:
        """The study of this name: `name, title, arms, seeds`; `None` if the protocol has none."""
        return next((study for study in self.manifest["studies"] if study["name"] == name), None)

    def with_seeds(self, seeds: Collection[int]) -> "Protocol":
        """The same protocol as if only these seeds were asked for."""
        runs = [run for run in self.manifest["runs"] if run["seed"] in set(seeds)]
        missing = {run["run"] for run in runs} & set(self.manifest["missing"])
        manifest = {**self.manifest, "seeds": sorted(seeds), "runs": runs}
        manifest["missing"] = [run for run in self.manifest["missing"] if run in missing]
        return replace(
            self,
            manifest=manifest,
            runs=self.runs[self.runs["seed"].isin(seeds)],
            measurements=self.measurements[self.measurements["seed"].isin(seeds)],
        )

    def values(
        self, arm: str, measure: str = VALIDATION, where: str = "", at: str = ""
    ) -> pd.DataFrame:
        """The rows of one arm and measure, sorted by seed and step: `seed, status, step, value`.

        Of a measure of several places, `where` and `at` say which.
        """
        return self._by_measure.get((arm, measure, where, at), self.measurements[:0][list(_SHOWN)])

    def places(self, arm: str, measure: str, where: str) -> dict[str, pd.DataFrame]:
        """The rows, as of `values`, of each place of a measure, in the order of measurement."""
        key = (arm, measure, where)
        return {of[3]: rows for of, rows in self._by_measure.items() if of[:3] == key}

    @cached_property
    def _by_measure(self):
        rows = self.measurements.sort_values(["seed", "step"], kind="stable")
        groups = rows.groupby(["arm", "measure", "where", "at"], sort=False)
        return dict(iter(groups[list(_SHOWN)]))

    def diverged(self, arm: str) -> list[int]:
        """The seeds of the arm's diverged runs."""
        runs = self.runs
        return sorted(runs.loc[(runs["arm"] == arm) & (runs["status"] == "diverged"), "seed"])


@dataclass(frozen=True)
class Paper:
    """The paper's numbers.

    Attributes:
        table: `paper.csv`, one row a reported value, with the columns `PAPER_COLUMNS`.
        curves: `paper_curves.csv` with `measure` in place of `accuracy_on`.
    """

    table: pd.DataFrame
    curves: pd.DataFrame

    def curve(self, arm: str, measure: str = VALIDATION) -> pd.DataFrame:
        """The points `step, accuracy_percent` of one curve, sorted by step."""
        rows = self.curves.query("arm == @arm and measure == @measure")
        return rows[["step", "accuracy_percent"]].sort_values("step")


@dataclass(frozen=True)
class Results:
    """All that exhibits are made of.

    Attributes:
        folder: Where the files are.
        protocols: The collected protocols, what took most core-hours first.
        paper: The paper's numbers.
    """

    folder: Path
    protocols: list[Protocol]
    paper: Paper


def load(folder: Path, names: Collection[str] | None = None) -> Results:
    """Read the paper's numbers and these protocols, by default every collected one.

    Raises:
        ResultsError: If anything is wrong with any of them: one message names it all.
    """
    paper = load_paper(folder)
    protocols, errors = [], []
    for name in dict.fromkeys(names or find_protocols(folder)):
        try:
            protocols.append(load_protocol(folder, name))
        except ResultsError as error:
            errors.append(str(error))
    if errors:
        raise ResultsError("\n".join(errors))
    protocols.sort(key=lambda protocol: -(protocol.manifest["core_hours"] or 0))
    return Results(folder, protocols, paper)


def describe_runs(runs: dict[str, list[int]]) -> str:
    """Name runs briefly: `bn-4 seeds 0, 2; brn-4 seed 1`."""
    return "; ".join(
        f"{arm} seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
        for arm, seeds in runs.items()
    )


def find_protocols(results: Path) -> list[str]:
    """Name every protocol that has a `<protocol>.csv` and a `<protocol>.json` in the folder.

    Raises:
        ResultsError: If there is none.
    """
    names = sorted(
        path.stem for path in results.glob("*.json") if csv_of(results, path.stem).exists()
    )
    if not names:
        raise ResultsError(
            f"Expected collected results, a <protocol>.csv and a <protocol>.json. "
            f"Received: results={results}, which has none. {how_to_make('digits')}"
        )
    return names


def load_protocol(results: Path, name: str) -> Protocol:
    """Read one protocol and check it against its manifest.

    Args:
        results: The folder with `<name>.csv` and `<name>.json`.
        name: The protocol's name.

    Raises:
        ResultsError: If a file is absent or unreadable, has other columns or keys than documented,
            belongs to another protocol, lacks a run that the manifest expects and does not call
            missing, holds one that it calls missing, or has no run at all.
    """
    manifest = read_manifest(results / f"{name}.json", name)
    path = csv_of(results, name)
    rows = read_csv(path, COLUMNS, how_to_make(name))
    expected = [run["run"] for run in manifest["runs"]]
    foreign = sorted(set(rows["run"]) - set(expected))
    if foreign:
        raise ResultsError(
            f"{path} should hold only the runs that the manifest of protocol {name!r} expects. "
            f"Received: run={', '.join(foreign)}. Collect the protocol again."
        )
    there, named = set(rows["run"]), set(manifest["missing"])
    missing = [run for run in expected if run not in there]
    unnamed = [run for run in missing if run not in named or len(named) == len(expected)]
    if unnamed:
        raise ResultsError(
            f"{path} lacks {len(unnamed)} of the {len(expected)} runs that the manifest "
            f"expects. Missing: {', '.join(unnamed)}. {how_to_make(name)}"
        )
    if named != set(missing):
        raise ResultsError(
            f"{path} should lack the runs that the manifest of protocol {name!r} calls missing. "
            f"Received: run={', '.join(sorted(named - set(missing)))}. Collect the protocol again."
        )
    runs = check_rows(path, name, rows)
    return Protocol(
        manifest=manifest,
        runs=runs,
        measurements=rows[np.isfinite(rows["value"])],
        total_steps=int(rows["total_steps"].iloc[0]),
    )


def load_paper(results: Path) -> Paper:
    """Read the paper's table and curves from `results`, or else from the repository's results.

    Raises:
        ResultsError: If a file is absent, or has other columns or measures than documented.
    """
    table = read_paper_csv(results, "paper.csv", PAPER_COLUMNS)
    curves = read_paper_csv(results, "paper_curves.csv", PAPER_CURVE_COLUMNS)
    unknown = sorted(set(curves["accuracy_on"]) - set(ACCURACY_ON))
    if unknown:
        raise ResultsError(
            f"paper_curves.csv: accuracy_on should be one of {', '.join(ACCURACY_ON)}. "
            f"Received: accuracy_on={', '.join(unknown)}."
        )
    curves["measure"] = curves["accuracy_on"].map(ACCURACY_ON)
    return Paper(table=table, curves=curves.drop(columns="accuracy_on"))
