"""How far a run has trained, in epochs, and what the paper's curves say at the same stage.

In the paper's figure 3 an early phase goes before a late one. Until about 36 epochs minibatch
statistics do worse than averages, halves gain little, and Batch Renormalization on non-i.i.d.
minibatches stays below its i.i.d. twin; only from 61 epochs on does batch normalization fall. A run
is to be compared with the paper at its own stage.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from paper_figures.load import VALIDATION, Paper, Protocol

EARLY = 36
"""Epochs of the paper's early phase: 29k of its steps."""
LATE = 61
"""Epochs after which the paper's batch normalization falls on non-i.i.d. minibatches."""
PAPER_STEPS = 800
"""The paper's steps an epoch: 1.28 million images, 50 x 32 a step."""
STAND_INS = {"bn-32": ("bn-shuffled",), "brn-32": ("brn-shuffled",)}
"""The paper's arms -> the controls that it has no need of."""


def early(protocol: Protocol) -> Protocol | None:
    """The protocol as if its runs ended with their last evaluation within the early phase.

    A run that diverges later is a run like any other there. `None` if there is no such evaluation.
    """
    rows = protocol.measurements
    steps = sorted(rows.loc[rows["measure"] == VALIDATION, "step"].unique())
    within = [int(step) for step in steps if protocol.epochs(step) <= EARLY]
    if not within:
        return None
    step = within[-1]
    there = rows.loc[(rows["step"] == step) & (rows["measure"] == VALIDATION), "run"]
    runs = protocol.runs.copy()
    runs.loc[runs.index.isin(there), "status"] = "finished"
    rows = rows[rows["step"] <= step]
    rows = rows.assign(status=rows["run"].map(runs["status"]))
    return replace(protocol, runs=runs, measurements=rows, total_steps=step)


def paper_runs(paper: Paper, protocol: Protocol) -> Protocol:
    """The paper's curves as if they were a run of the protocol: at its evaluations, by epochs.

    Between its points a curve is a straight line; before and after them there is nothing.
    """
    steps = np.array(sorted(protocol.measurements["step"].unique()))
    at = [PAPER_STEPS * protocol.epochs(step) for step in steps]

    def points(curve):
        values = np.interp(at, curve["step"], curve["accuracy_percent"], np.nan, np.nan)
        there = np.isfinite(values)
        return {"step": steps[there], "value": values[there]}

    return _as_run(paper, protocol, points)


def paper_ends(paper: Paper, protocol: Protocol) -> Protocol:
    """The last points of the paper's curves as if they were a run of the protocol."""

    def points(curve):
        return {"step": [protocol.total_steps], "value": curve["accuracy_percent"].tail(1)}

    return _as_run(paper, protocol, points)


def _as_run(paper, protocol, points):
    """What `points` gives of each curve, in the place of the protocol's runs.

    With 50 minibatches a step the gradient loses next to nothing, so the i.i.d. arms stand in for
    the shuffled controls.
    """
    rows = []
    for (arm, measure), curve in paper.curves.groupby(["arm", "measure"]):
        found = points(curve.sort_values("step"))
        for name in (arm, *STAND_INS.get(arm, ())):
            rows.append(
                pd.DataFrame({**found, "arm": name, "seed": 0, "status": "finished",
                              "measure": measure, "where": "", "at": ""})
            )  # fmt: skip
    measurements = pd.concat(rows, ignore_index=True)
    runs = measurements[["arm", "seed", "status"]].drop_duplicates()
    return replace(protocol, runs=runs, measurements=measurements)
