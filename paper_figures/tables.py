"""The table "paper | ours": computed once, then shown as CSV, Markdown and in the report."""

import pandas as pd

from paper_figures.load import VALIDATION, Paper, Scale
from paper_figures.statistics import Estimate, mean_interval, run_summaries


def comparison(scale: Scale, paper: Paper) -> pd.DataFrame:
    """Join every row of the paper's table with our runs.

    Ours are each run's maximum and final value, averaged over seeds; of a diverged run, what was
    measured before it diverged. Arms of the manifest that the paper does not have come last.

    Returns:
        One row a reported value: `row, arm, measure`, `status` ("run" or "not run"),
        `paper_percent, paper_step, paper_final_percent` (the end of its curve), `ours_maximum`
        and `ours_final` each with `_low` and `_high`, `n` (runs measured) and `diverged` (how many
        of the arm's runs diverged).
    """
    reported = paper.table[["row", "arm", "measure", "value_percent", "step"]]
    others = [arm for arm in scale.labels if arm not in set(reported["arm"])]
    extra = pd.DataFrame({"row": others, "arm": others, "measure": VALIDATION})
    rows = pd.concat([reported, extra], ignore_index=True) if others else reported
    return pd.DataFrame([_compare(row, scale, paper) for row in rows.itertuples(index=False)])


def show_estimate(estimate: Estimate) -> str:
    """Write an estimate as `74.2 (73.1 to 75.3)`, without the interval where there is none."""
    if estimate.n == 0:
        return "not measured"
    interval = f" ({estimate.low:.1f} to {estimate.high:.1f})" if estimate.n > 1 else ""
    return f"{estimate.mean:.1f}{interval}"


def show_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the comparison into what a reader sees, all strings, percentages to one decimal."""

    def show(row):
        ours = {"ours, maximum": "not run", "ours, final": "not run", "n": "-"}
        if row["status"] == "run":
            for kind in ("maximum", "final"):
                ends = [row[f"ours_{kind}{end}"] for end in ("", "_low", "_high")]
                ours[f"ours, {kind}"] = show_estimate(Estimate(*ends, row["n"]))
            ours["n"] = f"{row['n']} ({row['diverged']} diverged)" if row["diverged"] else row["n"]
        at = f" at {row['paper_step'] / 1000:.0f}k" if pd.notna(row["paper_step"]) else ""
        return {
            "row": row["row"],
            "paper": _percent(row["paper_percent"]) + at,
            "paper, end of its curve": _percent(row["paper_final_percent"]),
            **ours,
        }

    return pd.DataFrame([show(row) for _, row in table.iterrows()]).astype(str)


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV, numbers to two decimals, steps and counts whole."""
    whole = {name: "Int64" for name in ("paper_step", "n", "diverged")}
    return table.astype(whole).to_csv(index=False, float_format="%.2f", lineterminator="\n")


def to_markdown(shown: pd.DataFrame) -> str:
    """Write a table of strings as a Markdown table."""
    lines = [list(shown.columns), ["---"] * shown.shape[1], *shown.to_numpy().tolist()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _compare(row, scale, paper):
    curve = paper.curve(row.arm, row.measure)["accuracy_percent"]
    summaries = run_summaries(scale.values(row.arm, row.measure))
    ours = {kind: mean_interval(summaries[kind]) for kind in ("maximum", "final")}
    ends = {"": "mean", "_low": "low", "_high": "high"}
    return {
        "row": row.row,
        "arm": row.arm,
        "measure": row.measure,
        "status": "run" if row.arm in set(scale.runs["arm"]) else "not run",
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
    }


def _percent(value):
    return f"{value:.1f}" if pd.notna(value) else "-"
