"""How far a run has trained, in epochs, and what the paper's curves say at the same stage.

In the paper's figure 3 an early phase goes before a late one. Until about 36 epochs minibatch
statistics do worse than averages, halves gain little, and Batch Renormalization on non-i.i.d.
minibatches stays below its i.i.d. twin; only from 61 epochs on does batch normalization fall. A run
is to be compared with the paper at its own stage.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from paper_figures.load import VALIDATION, Paper, Scale

EARLY = 36
"""Epochs of the paper's early phase: 29k of its steps."""
LATE = 61
"""Epochs after which the paper's batch normalization falls on non-i.i.d. minibatches."""
PAPER_STEPS = 800
"""The paper's steps an epoch: 1.28 million images, 50 x 32 a step."""
STAND_INS = {"bn-32": ("bn-shuffled",), "brn-32": ("brn-shuffled",)}
"""The paper's arms -> the controls that it has no need of."""


def early(scale: Scale) -> Scale | None:
    """The scale as if its runs ended with their last evaluation within the early phase.

    A run that diverges later is a run like any other there. `None` if there is no such evaluation.
    """
    rows = scale.measurements
    steps = sorted(rows.loc[rows["measure"] == VALIDATION, "step"].unique())
    within = [int(step) for step in steps if scale.epochs(step) <= EARLY]
    if not within:
        return None
    step = within[-1]
    there = rows.loc[(rows["step"] == step) & (rows["measure"] == VALIDATION), "run"]
    runs = scale.runs.copy()
    runs.loc[runs.index.isin(there), "status"] = "finished"
    rows = rows[rows["step"] <= step]
    rows = rows.assign(status=rows["run"].map(runs["status"]))
    return replace(scale, runs=runs, measurements=rows, total_steps=step)


def paper_runs(paper: Paper, scale: Scale) -> Scale:
    """The paper's curves as if they were a run of the scale: at its evaluations, by epochs.

    Between its points a curve is a straight line; before and after them there is nothing. With 50
    minibatches a step the gradient loses next to nothing, so the i.i.d. arms stand in for the
    shuffled controls.
    """
    steps = np.array(sorted(scale.measurements["step"].unique()))
    rows = []
    for (arm, measure), curve in paper.curves.groupby(["arm", "measure"]):
        curve = curve.sort_values("step")
        at = [PAPER_STEPS * scale.epochs(step) for step in steps]
        values = np.interp(at, curve["step"], curve["accuracy_percent"], np.nan, np.nan)
        there = np.isfinite(values)
        for name in (arm, *STAND_INS.get(arm, ())):
            found = {"step": steps[there], "value": values[there]}
            rows.append(
                pd.DataFrame({"arm": name, "seed": 0, "status": "finished", "measure": measure,
                              "where": "", "at": "", **found})
            )  # fmt: skip
    measurements = pd.concat(rows, ignore_index=True)
    runs = measurements[["arm", "seed", "status"]].drop_duplicates()
    return replace(scale, runs=runs, measurements=measurements)
