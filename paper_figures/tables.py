"""The table "paper | ours": computed once, then shown as CSV, Markdown and in the report."""

import pandas as pd

from paper_figures.load import OWN, VALIDATION, Paper, Scale
from paper_figures.statistics import Estimate, mean_interval, run_summaries

NOTE = (
    "A t interval knows nothing of the ends of the scale: where a few seeds differ much, it can "
    "reach above 100 % or below 0 %."
)
"""What stands beside the comparison."""


def comparison(scale: Scale, paper: Paper) -> pd.DataFrame:
    """Join every row of the paper's table with our runs.

    Each row of a non-i.i.d. arm comes once for every structure of minibatches that the scale runs.
    Ours are each run's maximum and final value, averaged over seeds; of a diverged run, what was
    measured before it diverged. Arms of the manifest that the paper does not have come last.

    Returns:
        One row a reported value: `row, arm, measure`, `structure` of non-i.i.d. minibatches (such
        as "16 x 2"), `status` ("run", "missing" if no run has ended yet, or "not run"),
        `paper_percent, paper_step, paper_final_percent` (the end of its curve), `ours_maximum`
        and `ours_final` each with `_low` and `_high`, `n` (runs measured) and `diverged` (how many
        of the arm's runs diverged), `expected` (runs in the grid).
    """
    reported = pd.concat([_in_structure(paper.table, scale, at) for at in scale.structures])
    others = [arm for arm in scale.labels if arm not in set(reported["arm"])]
    extra = pd.DataFrame({"row": others, "arm": others, "of": others, "measure": VALIDATION})
    extra["structure"] = ""
    rows = pd.concat([reported, extra], ignore_index=True) if others else reported
    return pd.DataFrame([_compare(row, scale, paper) for row in rows.itertuples(index=False)])


def _in_structure(reported, scale, structure):
    """The paper's rows as rows of ours; those of i.i.d. arms stand with the own structure."""
    sampled = reported["figure"] == 3
    rows = reported[["row", "arm", "measure", "value_percent", "step"]].assign(
        of=reported["arm"], structure=sampled.map({True: scale.structures[structure], False: ""})
    )
    return rows.assign(arm=rows["arm"] + structure)[sampled | (structure == OWN)]


def show_estimate(estimate: Estimate) -> str:
    """Write an estimate as `74.2 (73.1 to 75.3)`, without the interval where there is none."""
    if estimate.n == 0:
        return "not measured"
    interval = f" ({estimate.low:.1f} to {estimate.high:.1f})" if estimate.n > 1 else ""
    return f"{estimate.mean:.1f}{interval}"


def show_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the comparison into what a reader sees, all strings, percentages to one decimal."""
    several = table["structure"].replace("", None).nunique() > 1

    def show(row):
        ours = {"ours, maximum": row["status"], "ours, final": row["status"], "n": "-"}
        if row["status"] == "run":
            for kind in ("maximum", "final"):
                ends = [row[f"ours_{kind}{end}"] for end in ("", "_low", "_high")]
                ours[f"ours, {kind}"] = show_estimate(Estimate(*ends, row["n"]))
            of = f" of {row['expected']}" if row["n"] < row["expected"] else ""
            diverged = f" ({row['diverged']} diverged)" if row["diverged"] else ""
            ours["n"] = f"{row['n']}{of}{diverged}"
        at = f" at {row['paper_step'] / 1000:.0f}k" if pd.notna(row["paper_step"]) else ""
        return {
            "row": f"{row['row']}, {row['structure']}"
            if several and row["structure"]
            else row["row"],
            "paper": _percent(row["paper_percent"]) + at,
            "paper, end of its curve": _percent(row["paper_final_percent"]),
            **ours,
        }

    return pd.DataFrame([show(row) for _, row in table.iterrows()]).astype(str)


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV, numbers to two decimals, steps and counts whole."""
    whole = {name: "Int64" for name in ("paper_step", "n", "diverged", "expected")}
    return table.astype(whole).to_csv(index=False, float_format="%.2f", lineterminator="\n")


def to_markdown(shown: pd.DataFrame) -> str:
    """Write a table of strings as a Markdown table."""
    lines = [list(shown.columns), ["---"] * shown.shape[1], *shown.to_numpy().tolist()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _compare(row, scale, paper):
    curve = paper.curve(row.of, row.measure)["accuracy_percent"]
    summaries = run_summaries(scale.values(row.arm, row.measure))
    ours = {kind: mean_interval(summaries[kind]) for kind in ("maximum", "final")}
    ends = {"": "mean", "_low": "low", "_high": "high"}
    ran = (scale.runs["arm"] == row.arm).sum()
    missing = len(scale.missing.get(row.arm, []))
    return {
        "row": row.row,
        "arm": row.arm,
        "measure": row.measure,
        "structure": row.structure,
        "status": "run" if ran else "missing" if missing else "not run",
        "paper_percent": row.value_percent,
        "paper_step": row.step,
        "paper_final_percent": curve.iloc[-1] if len(curve) else None,
        **{
            f"ours_{kind}{end}": getattr(estimate, field)
            for kind, estimate in ours.items()
            for end, field in ends.items()
        },
        "n": len(summaries),
        "diverged": len(scale.diverged(row.arm)),
        "expected": ran + missing,
    }


def _percent(value):
    return f"{value:.1f}" if pd.notna(value) else "-"
