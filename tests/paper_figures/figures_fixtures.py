"""Made-up collected results for the tests of `paper_figures`."""

import json
import re

import numpy as np
import pandas as pd

from paper_figures import load
from paper_figures.load import VALIDATION, Protocol

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
STEPS = (100, 200, 300, 400, 500, 600, 700, 800)
COLUMNS = list(load.COLUMNS)
CONTROLS = ("bn-shuffled", "brn-shuffled")


def fields_of(arm, known):
    """What a manifest says of an arm, made up from its name; `known` are all arms there are."""
    normalization, _, rest = arm.partition("-")
    size = re.search(r"-(\d+)x(\d+)$", arm)
    ending = size[0] if size else "".join(re.findall(r"-depth\d+$", arm))
    kind = rest.removesuffix(ending)
    sampling = {"noniid": "adjacent", "halves": "apart", "shuffled": "shuffled"}.get(kind, "iid")
    labels, images = (int(size[1]), int(size[2])) if size else (16, 2)
    control = f"{normalization}-shuffled{ending}"
    has_control = sampling in ("adjacent", "apart") and control in known
    name = arm.removesuffix(ending)
    return {
        "arm": arm,
        "label": arm,
        "normalization": normalization,
        "group": {"halves": 16, "4": 4}.get(kind, 32),
        "sampling": sampling,
        "bounds": "paper",
        "labels": None if sampling == "iid" else labels,
        "images": None if sampling == "iid" else images,
        "control": control if has_control else None,
        "paper": name if name in LABELS and "depth" not in ending else None,
        "changes": {"depth": int(ending.removeprefix("-depth"))} if "depth" in ending else {},
    }


def rows_of(arm, seed, steps=(100, 400, 700, 1000), status="finished", protocol="made-up"):
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
            rows.append((f"{protocol}-{arm}-s{seed}", arm, seed, status, step, TOTAL_STEPS, measure,
                         "", "", value))  # fmt: skip
    return rows


def write_results(
    folder, arms=tuple(LABELS), seeds=(0, 1, 2), protocol="made-up", rows=None, missing=()
):
    """Write `<protocol>.csv` and `<protocol>.json`; `rows` replaces the rows of complete runs.

    The runs of the ids in `missing` are left out of the CSV, and the manifest says so.
    """
    runs = [(arm, seed) for arm in arms for seed in seeds]
    if rows is None:
        rows = [row for arm, seed in runs for row in rows_of(arm, seed, protocol=protocol)]
    rows = [row for row in rows if row[0] not in missing]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / f"{protocol}.csv", index=False)
    manifest = {
        "scale": protocol,
        "title": "made up in miniature",
        "notes": ["This protocol is a demonstration.", "Its numbers are <made up> & mean nothing."],
        "protocol": {
            "total_steps": TOTAL_STEPS,
            "optimizer": "none",
            "image_size": None,
            "labels_per_minibatch": 16,
            "images_per_label": 2,
            "workers": 8,
        },
        "classes": 100,
        "training_images": 20_000,
        "seeds": list(seeds),
        "arms": [{**fields_of(arm, arms), "label": LABELS[arm][2]} for arm in arms],
        "studies": [],
        "runs": [{"run": f"{protocol}-{a}-s{seed}", "arm": a, "seed": seed} for a, seed in runs],
        "missing": list(missing),
        "environment": ["no machine at all"],
        "core_hours": 1.25,
    }
    (folder / f"{protocol}.json").write_text(json.dumps(manifest))
    return folder


def protocol_of(
    measured, missing=(), diverged=(), structures=("",), about=None, studies=(), **protocol
):
    """A protocol in memory.

    Args:
        measured: arm or (arm, measure[, where, at]) -> one item a seed: the value at every step,
            or a list.
        missing, diverged: pairs of arm and seed. A diverged run has the given values up to half.
        structures: ends of the names of non-i.i.d. arms.
        about: arm -> what the manifest says of it, in place of what its name hints at.
        studies: name -> arms, with the seeds 0 to 2.
        **protocol: settings, in place of those of 2 epochs of Tiny ImageNet; 400 workers make
            them 12.8 epochs in 100 steps, and 102 at the end.
    """
    rows = []
    for key, runs in measured.items():
        key = (key, VALIDATION) if isinstance(key, str) else key
        arm, measure, where, place = key if len(key) == 4 else (*key, "", "")
        for seed, values in enumerate(runs):
            status = "diverged" if (arm, seed) in diverged else "finished"
            values = values if isinstance(values, list) else [values] * len(STEPS)
            for step, value in zip(STEPS, values, strict=True):
                if status == "finished" or step <= 400:
                    rows.append((f"made-up-{arm}-s{seed}", arm, seed, status, step, 800, measure,
                                 where, place, value))  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    known = [*LABELS, *CONTROLS, *(f"bn-halves{at}" for at in structures if at), *table["arm"]]
    known = list(dict.fromkeys([*known, *(about or {})]))
    expected = [*table[["arm", "seed"]].drop_duplicates().itertuples(index=False), *missing]
    manifest = {
        "scale": "made-up",
        "title": "made up",
        "notes": [],
        "environment": [],
        "core_hours": None,
        "seeds": sorted(set(table["seed"])),
        "classes": 200,
        "training_images": 100_000,
        "arms": [{**fields_of(arm, known), **(about or {}).get(arm, {})} for arm in known],
        "studies": [
            {"name": name, "title": name, "arms": arms, "seeds": [0, 1, 2]}
            for name, arms in dict(studies).items()
        ],
        "runs": [
            {"run": f"made-up-{arm}-s{seed}", "arm": arm, "seed": seed} for arm, seed in expected
        ],
        "missing": [f"made-up-{arm}-s{seed}" for arm, seed in missing],
        "protocol": {
            "source": "tiny_imagenet",
            "workers": 8,
            "labels_per_minibatch": 16,
            "images_per_label": 2,
            "learning_rate": 0.1,
            "alpha": 0.1,
            **protocol,
        },
    }
    runs = table[["run", "arm", "seed", "status"]].drop_duplicates().set_index("run")
    return Protocol(manifest, runs, table, 800)
