"""The table "paper | ours" of every protocol that repeats an arm of the paper."""

from collections.abc import Iterator

import pandas as pd

from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import VALIDATION, Paper, Protocol, Results
from paper_figures.statistics import Estimate, mean_interval, run_summaries
from paper_figures.words import show

PLACE = 2
NOTE = (
    "Top-1 accuracy in percent. The paper's values are the maxima of its curves; ours are each "
    "run's maximum and final value, averaged over n seeds [95 % t interval]. Maxima are chosen on "
    "the images they are reported for. Of a diverged run counts what was measured before it "
    "diverged. A t interval knows nothing of the ends of the scale: where a few seeds differ much, "
    "it can reach above 100 % or below 0 %."
)
OWN_ARMS = "own"
"""The study of the arms that somebody's own protocol adds."""
WHOLE = ("paper_step", "n", "diverged", "expected")


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the table of every protocol with runs to put beside the paper's."""
    for protocol in results.protocols:
        papers = any(about["paper"] for about in protocol.arms.values())
        if papers or protocol.study(OWN_ARMS):
            numbers = comparison(protocol, results.paper)
            shown = show_comparison(numbers)
            ours = shown["paper"] == "-"
            tables = {"paper_rows": (Part(table=shown[~ours]), Part(NOTE))} if papers else {}
            if ours.any():
                columns = ["paper", "paper, end of its curve"]
                more = shown[ours].drop(columns=columns).rename(columns={"row": "arm"})
                tables["more_rows"] = (Part("Arms that the paper does not have:", more),)
            yield Exhibit(
                Section.of(protocol),
                "table",
                "The paper's numbers and ours",
                tables=tables,
                numbers={"table": numbers.astype(dict.fromkeys(WHOLE, "Int64"))},
            )


def comparison(protocol: Protocol, paper: Paper) -> pd.DataFrame:
    """Join every row of the paper's table with our runs.

    Each row of a non-i.i.d. arm comes once for every structure of minibatches in which the protocol
    repeats it. Ours are each run's maximum and final value, averaged over seeds; of a diverged
    run, what was measured before it diverged. Arms that the paper does not have come last.

    Returns:
        One row a reported value: `row, arm, measure`, `structure` of non-i.i.d. minibatches (such
        as "16 x 2"), `status` ("run", "missing" if no run has ended yet, or "not run"),
        `paper_percent, paper_step, paper_final_percent` (the end of its curve), `ours_maximum`
        and `ours_final` each with `_low` and `_high`, `n` (runs measured) and `diverged` (how many
        of the arm's runs diverged), `expected` (runs in the grid).
    """
    reported = list(paper.table.itertuples(index=False))
    structures = dict.fromkeys(
        (about["labels"], about["images"])
        for about in protocol.arms.values()
        if about["paper"] and about["labels"]
    )
    own = protocol.settings["labels_per_minibatch"], protocol.settings["images_per_label"]
    rows = []
    for structure in dict.fromkeys([own, *structures]):
        for row in reported:
            sampled = row.figure == 3
            if sampled or structure == own:
                at = structure if sampled else (None, None)
                ours = protocol.find(paper=row.arm, labels=at[0], images=at[1])
                words = f"{structure[0]} x {structure[1]}" if sampled else ""
                rows.append(_compare(protocol, paper, row, ours[0] if ours else "", words))
    beside = [_extra(protocol, arm) for arm, about in protocol.arms.items() if not about["paper"]]
    return pd.DataFrame([*rows, *beside])


def _compare(protocol, paper, row, arm, structure):
    curve = paper.curve(row.arm, row.measure)["accuracy_percent"]
    return {
        "row": row.row,
        "arm": arm or row.arm,
        "measure": row.measure,
        "structure": structure,
        "paper_percent": row.value_percent,
        "paper_step": row.step,
        "paper_final_percent": curve.iloc[-1] if len(curve) else None,
        **_ours(protocol, arm, row.measure),
    }


def _extra(protocol, arm):
    return {
        "row": arm,
        "arm": arm,
        "measure": VALIDATION,
        "structure": "",
        "paper_percent": None,
        "paper_step": None,
        "paper_final_percent": None,
        **_ours(protocol, arm, VALIDATION),
    }


def _ours(protocol, arm, measure):
    summaries = run_summaries(protocol.values(arm, measure))
    ours = {kind: mean_interval(summaries[kind]) for kind in ("maximum", "final")}
    ends = {"": "mean", "_low": "low", "_high": "high"}
    ran = int((protocol.runs["arm"] == arm).sum())
    missing = len(protocol.missing.get(arm, []))
    return {
        "status": "run" if ran else "missing" if missing else "not run",
        **{
            f"ours_{kind}{end}": getattr(estimate, field)
            for kind, estimate in ours.items()
            for end, field in ends.items()
        },
        "n": len(summaries),
        "diverged": len(protocol.diverged(arm)),
        "expected": ran + missing,
    }


def show_comparison(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the comparison into what a reader sees, all strings, percentages to one decimal."""
    several = table["structure"].replace("", None).nunique() > 1

    def row(found):
        ours = {"ours, maximum": found["status"], "ours, final": found["status"], "n": "-"}
        if found["status"] == "run":
            for kind in ("maximum", "final"):
                ends = [found[f"ours_{kind}{end}"] for end in ("", "_low", "_high")]
                ours[f"ours, {kind}"] = show(Estimate(*ends, found["n"]))
            of = f" of {found['expected']}" if found["n"] < found["expected"] else ""
            diverged = f" ({found['diverged']} diverged)" if found["diverged"] else ""
            ours["n"] = f"{found['n']}{of}{diverged}"
        at = f" at {found['paper_step'] / 1000:.0f}k" if pd.notna(found["paper_step"]) else ""
        structure = f", {found['structure']}" if several and found["structure"] else ""
        return {
            "row": found["row"] + structure,
            "paper": _percent(found["paper_percent"]) + at,
            "paper, end of its curve": _percent(found["paper_final_percent"]),
            **ours,
        }

    return pd.DataFrame([row(found) for _, found in table.iterrows()]).astype(str)


def _percent(value):
    return f"{value:.1f}" if pd.notna(value) else "-"
