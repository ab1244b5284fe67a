"""Made-up collected results for the tests of `paper_figures`."""

import json

import numpy as np
import pandas as pd

LABELS = {
    "bn-32": ("4.1", 1, "Batch Norm, 32"),
    "brn-32": ("4.1", 1, "Batch Renorm, 32"),
    "bn-4": ("4.2", 2, "Batch Norm, 4"),
    "brn-4": ("4.2", 2, "Batch Renorm, 4"),
    "bn-noniid": ("4.3", 3, "Batch Norm, non-i.i.d."),
    "bn-halves": ("4.3", 3, "Batch Norm, non-i.i.d. in halves"),
    "brn-noniid": ("4.3", 3, "Batch Renorm, non-i.i.d."),
}
TOPS = dict(zip(LABELS, (96.0, 96.5, 90.0, 94.0, 80.0, 93.0, 95.0), strict=True))
TOTAL_STEPS = 1000


def rows_of(arm, seed, steps=(100, 400, 700, 1000), status="finished", scale="made-up"):
    """One run's rows: the accuracy climbs to the arm's top plus half a point a seed."""
    rows = []
    for step in steps:
        top = TOPS[arm] + 0.5 * seed
        accuracy = top * (1 - np.exp(-5 * step / TOTAL_STEPS))
        values = {"training_loss": 100 - accuracy, "validation_accuracy_percent": accuracy}
        if arm == "bn-noniid":
            values["validation_accuracy_percent"] = accuracy - 10 * step / TOTAL_STEPS
            values["training_accuracy_percent"] = accuracy
            values["minibatch_statistics_accuracy_percent"] = min(accuracy + 8, 100)
        for measure, value in values.items():
            rows.append((f"{scale}-{arm}-s{seed}", arm, seed, status, step, TOTAL_STEPS, measure,
                         value))  # fmt: skip
    return rows


def write_results(folder, arms=tuple(LABELS), seeds=(0, 1, 2), scale="made-up", rows=None):
    """Write `<scale>.csv` and `<scale>.json`; `rows` replaces the rows of complete runs."""
    runs = [(arm, seed) for arm in arms for seed in seeds]
    if rows is None:
        rows = [row for arm, seed in runs for row in rows_of(arm, seed, scale=scale)]
    columns = ["run", "arm", "seed", "status", "step", "total_steps", "measure", "value"]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(folder / f"{scale}.csv", index=False)
    keys = ("section", "figure", "label")
    manifest = {
        "scale": scale,
        "title": "made up in miniature",
        "notes": ["This scale is a demonstration.", "Its numbers are <made up> & mean nothing."],
        "protocol": {"total_steps": TOTAL_STEPS, "optimizer": "none", "image_size": None},
        "seeds": list(seeds),
        "arms": [{"arm": arm, **dict(zip(keys, LABELS[arm], strict=True))} for arm in arms],
        "runs": [f"{scale}-{arm}-s{seed}" for arm, seed in runs],
        "environment": ["no machine at all"],
        "core_hours": 1.25,
    }
    (folder / f"{scale}.json").write_text(json.dumps(manifest))
    return folder
