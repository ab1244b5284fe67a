"""The judgement as a reader sees it, and what there is to say of all of it."""

import pandas as pd

from paper_figures import words
from paper_figures.claims.verdicts import (
    NOT_DECIDED,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    OLDER,
    REPRODUCED,
)
from paper_figures.load import Protocol
from paper_figures.statistics import Estimate

DIGITS = {"points": 2, "%": 2, "ratio": 3, "steps": 0, "spikes": 1}
KINDS = (REPRODUCED, NOT_REPRODUCED, NOT_DECIDED, NOT_TESTABLE)
HEADINGS = {
    "end": "At the end, after {epochs} epochs",
    "stage": "At the paper's stage: its first 36 epochs, here after {epochs}",
    "depth": "Over the number of normalization layers, after {epochs} epochs",
    "check": "Does the experiment do what it is meant to? After {epochs} epochs, without a verdict",
}
POST_HOC = {
    "end": "\"Not testable here\", C11's first 50 steps, the interval of C12 and Holm's correction "
    "were added after these runs.",
    "stage": "Post hoc: these criteria were written after these runs.",
    "check": "Added after these runs.",
}
"""What is to be said of the parts in protocols that are older than their criteria."""
HOLM = (
    "Each verdict is at 95 %; `Holm` is the verdict corrected for the number of judgements of the "
    "protocol, those added after its runs by themselves. `paper` is the same number from the "
    "paper's curves after as many epochs, its i.i.d. arms in place of the shuffled controls."
)


def show(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the judgement into what a reader sees, all strings."""
    ends = table.groupby("part")["epochs"].min()
    return pd.DataFrame([_show(row, ends) for _, row in table.iterrows()]).astype(str)


def seeds(claim: pd.Series) -> str:
    """Say from how many seeds a judgement is, and of how many where some are missing."""
    missing = claim["n"] < claim["expected"]
    return f"{claim['n']} of {claim['expected']}" if missing else str(claim["n"])


def _show(claim, ends):
    digits = DIGITS[claim["unit"]]
    ours = "-"
    if pd.notna(claim["difference"]):
        estimate = Estimate(claim["difference"], claim["low"], claim["high"], claim["n"])
        ours = f"{words.show(estimate, digits)} {claim['unit']}"
    name = f"{claim['claim']}, {claim['case']}" if claim["case"] else claim["claim"]
    if claim["epochs"] > ends[claim["part"]]:
        name += f", {claim['epochs']:.0f} epochs"
    decided = claim["verdict"] in (REPRODUCED, NOT_REPRODUCED)
    return {
        "claim": name,
        "the paper says": claim["text"],
        "criterion": claim["criterion"],
        "ours [95 % interval]": ours,
        "paper": f"{claim['paper']:z.{digits}f}" if pd.notna(claim["paper"]) else "-",
        "n": seeds(claim),
        "verdict": claim["verdict"] or "-",
        "Holm": claim["holm"] if decided else "-",
        "note": claim["note"],
    }


def parts(table: pd.DataFrame, protocol: Protocol) -> dict[str, pd.DataFrame]:
    """Divide the judgement into its parts: a heading, with what is to be said of it -> its rows."""
    found = {}
    for part, heading in HEADINGS.items():
        rows = table[table["part"] == part]
        if len(rows):
            heading = heading.format(epochs=f"{rows['epochs'].min():.0f}")
            found[_with(heading, POST_HOC.get(part) if protocol.name in OLDER else None)] = rows
    return found


def _with(heading, remark):
    return f"{heading}. {remark}" if remark else f"{heading}."


def count_verdicts(table: pd.DataFrame) -> str:
    """Say how many judgements there are of each kind, and how many Holm's correction leaves.

    Nothing where nothing is judged.
    """
    judged = table[table["verdict"] != ""]
    if not len(judged):
        return ""
    counts = judged["verdict"].value_counts()
    said = ", ".join(f"{counts.get(kind, 0)} {kind}" for kind in KINDS)
    decided = judged["verdict"].isin([REPRODUCED, NOT_REPRODUCED])
    kept = (decided & (judged["holm"] == judged["verdict"])).sum()
    return (
        f"{len(judged)} judgements: {said}; {kept} of the {decided.sum()} decided ones stay so "
        "by Holm's correction."
    )
