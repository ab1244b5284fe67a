"""Verdicts on the paper's claims, by the criteria of `criteria.py`.

With the 95 % t interval (low, high) of the mean of a claim's numbers, it is *reproduced* if
low > threshold, *not reproduced* if high <= threshold, else *not decided*; with fewer than three
seeds it is not decided. A claim between two limits is reproduced if the whole interval is, not
reproduced if no part of it is. *Not testable here* is what the runs cannot say anything about:
effects that the paper has later than they end, remedies where there is no damage to give back, and
halves that do not separate the images of a label (`results/criteria.md`).
"""

import pandas as pd

from paper_figures.claims.criteria import CHECKS, DAMAGE, DEPTH, END, STAGE, Claim
from paper_figures.claims.stage import LATE, early, paper_ends, paper_runs
from paper_figures.load import OWN, Paper, Protocol, describe_runs
from paper_figures.statistics import LEVEL, Estimate, holm, mean_interval, p_above
from paper_figures.words import show

REPRODUCED, NOT_REPRODUCED, NOT_DECIDED = "reproduced", "not reproduced", "not decided"
NOT_TESTABLE = "not testable here"
FEWEST_SEEDS = 3
PARTS = {"end": END, "stage": STAGE, "depth": DEPTH, "check": CHECKS}
OLDER = ("tiny_imagenet", "tiny_imagenet_long")
"""Protocols whose runs are older than the judgement by stage and than "not testable here"."""
SHORTER = {"tiny_imagenet_long": "tiny_imagenet"}
"""Protocol -> the same with fewer steps, beside which its C5b is set."""


def applies(protocol: Protocol) -> bool:
    """Whether it has the arms that tell what normalization does.

    These are C5b's, those of some depth, or in the study of the paper's arms those of any claim.
    """
    judged = (claim for claim in END if claim.threshold is not None)
    return any(claim.runs(protocol) for claim in (DAMAGE, *DEPTH)) or (
        protocol.study("paper") is not None and any(claim.cases(protocol) for claim in judged)
    )


def verdict(estimate: Estimate, threshold: float, below: float | None = None) -> str:
    """Hold the interval of a mean against a threshold that it should be above, and a limit below.

    Args:
        estimate: The mean and its interval.
        threshold: What the mean should be above.
        below: What it should be below as well, if anything.
    """
    if estimate.n < FEWEST_SEEDS:
        return NOT_DECIDED
    if estimate.low > threshold and (below is None or estimate.high < below):
        return REPRODUCED
    outside = estimate.high <= threshold or (below is not None and estimate.low >= below)
    return NOT_REPRODUCED if outside else NOT_DECIDED


def p_value(estimate: Estimate, threshold: float, below: float | None = None) -> float:
    """The p value of the one-sided t test behind a verdict, in the direction the mean points to.

    Between two limits the mean has to pass two tests, and the larger p value counts; outside of
    them it has to pass the one at the nearer limit.
    """
    above = p_above(estimate, threshold)
    inside = above if below is None else max(above, 1 - p_above(estimate, below))
    outside = 1 - above if below is None else min(1 - above, p_above(estimate, below))
    return min(inside, outside)


def not_testable(claim: Claim, protocol: Protocol, at: str, damage: str) -> str:
    """Say why the runs cannot say anything about a claim; "" if they can.

    Args:
        claim: The claim.
        protocol: The runs.
        at: The structure of non-i.i.d. minibatches.
        damage: The verdict on C5b for this structure.
    """
    if claim.late and not protocol.epochs() >= LATE:
        return (
            f"the paper's falls after {LATE} epochs, these runs end after {protocol.epochs():.0f}"
        )
    if claim.halves and not _separates(protocol, claim.halves.format(at)):
        return "these halves do not separate the images of a label"
    if claim.remedy and damage == NOT_REPRODUCED:
        return f"C5b is {damage}: there is no damage to give back"
    return ""


def _separates(protocol, arm):
    """Whether each image of a label is in another group of its minibatch."""
    return protocol.arms[arm]["images"] <= 2  # halves are two groups


def judge(
    protocol: Protocol, paper: Paper | None = None, speed=None, shorter: Protocol | None = None
) -> pd.DataFrame:
    """Judge every claim whose arms the protocol runs.

    The claims at the end; those within the paper's early phase, at the last evaluation there, and
    where runs go on, their numbers at the end as well, without a verdict; those about depth; and
    the checks, which have no verdict.

    Args:
        protocol: The runs.
        paper: The paper's curves, to set their value after as many epochs beside each number.
        speed: The benchmarks, as `speed.load_speed` reads them, for C12.
        shorter: The runs of the protocol that `SHORTER` names.

    Returns:
        One row a claim and case, a structure of non-i.i.d. minibatches or, for C12, a backend:
        `part` (of `PARTS`), `epochs, claim, text, case, criterion, unit, difference, low, high,
        threshold, below, paper` (its value after as many epochs), `paper_end` (at the end of its
        curves), `n, expected` (seeds in the grid), `p, verdict`, `holm` (the verdict by Holm's
        correction over its family) and `note`. A family is the judgements of one protocol; those
        that were added after the runs are one of their own.
    """
    stages = {"end": protocol, "stage": early(protocol), "depth": protocol, "check": protocol}
    damage = {at: verdict(DAMAGE.estimate(protocol, at), 2) for at in DAMAGE.cases(protocol)}
    rows = []
    for part, claims in PARTS.items():
        when = stages[part]
        if when is None:
            continue
        theirs = _of_paper(paper, when)
        for claim in claims:
            for at, case in claim.cases(when, speed).items():
                rows.append(_judge(part, claim, when, at, case, damage.get(at), speed, theirs))
        if part == "stage" and when.total_steps < protocol.total_steps:
            theirs = _of_paper(paper, protocol)
            for claim in claims:
                for at, case in claim.cases(protocol).items():
                    rows.append(_row(part, claim, protocol, at, case, speed, theirs))
    table = pd.DataFrame(rows)
    if len(table):
        table = _corrected(table, protocol)
    return table if shorter is None else _beside(table, protocol, shorter)


def _of_paper(paper, protocol):
    """Column -> the paper's curves as runs of the protocol."""
    of = {"paper": paper_runs, "paper_end": paper_ends}
    return {column: make(paper, protocol) if paper else None for column, make in of.items()}


def _judge(part, claim, protocol, at, case, damage, speed, theirs):
    """A row with its verdict, where the claim has a threshold."""
    row = _row(part, claim, protocol, at, case, speed, theirs)
    if claim.threshold is None:
        return row
    estimate = Estimate(row["difference"], row["low"], row["high"], row["n"])
    own = verdict(estimate, claim.threshold, claim.below)
    row["p"] = p_value(estimate, claim.threshold, claim.below)
    notes = [row["note"]] if row["note"] else []
    if reason := not_testable(claim, protocol, at, damage):
        row["verdict"] = NOT_TESTABLE
        notes.append(f"{reason}; by its own numbers {own}")
    else:
        row["verdict"] = own
        if claim.remedy and damage == NOT_DECIDED and own == REPRODUCED:
            row["verdict"] = NOT_DECIDED
            notes.append(f"{own} by its own numbers, but C5b is {damage}")
        if own == NOT_REPRODUCED and claim.blind(protocol):
            row["verdict"] = NOT_DECIDED
            notes.append(f"{own} by its own numbers, which do not look there")
    return {**row, "note": "; ".join(notes)}


def _row(part, claim, protocol, at, case, speed, theirs):
    """A row without a verdict."""
    arms = [arm.format(at) for arm in claim.arms]
    estimate = claim.estimate(protocol, at, speed)
    compared = claim.unit in ("points", "%") and part != "check"
    of_paper = {
        column: claim.numbers(runs, OWN).mean() if runs and compared else float("nan")
        for column, runs in theirs.items()
    }
    missing = {arm: protocol.missing[arm] for arm in arms if arm in protocol.missing}
    notes = ["post hoc"] if part == "stage" and protocol.name in OLDER else []
    notes += [f"missing: {describe_runs(missing)}"] if missing else []
    notes += [
        f"{arm}: {len(protocol.diverged(arm))} diverged" for arm in arms if protocol.diverged(arm)
    ]
    notes += [remark] if (remark := claim.note(protocol, at, speed)) else []
    seeds = set.intersection(*(_seeds(protocol, arm) for arm in arms))
    return {
        "part": part,
        "epochs": protocol.epochs(),
        "claim": claim.name,
        "text": claim.text,
        "case": case,
        "criterion": claim.criterion.replace("{}", at),
        "unit": claim.unit,
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "threshold": claim.threshold,
        "below": claim.below,
        **of_paper,
        "n": estimate.n,
        "expected": len(seeds) if claim.seeded else estimate.n,
        "p": float("nan"),
        "verdict": "",
        "note": "; ".join(notes),
    }


def _seeds(protocol, arm):
    there = protocol.runs.loc[protocol.runs["arm"] == arm, "seed"]
    return {*there, *protocol.missing.get(arm, [])}


def _corrected(table, protocol):
    """Add the verdicts by Holm's correction; without a test or undecided, there is none."""
    judged = table["verdict"] != ""
    family = table["part"] == "stage" if protocol.name in OLDER else pd.Series(False, table.index)
    decided = table["verdict"].isin([REPRODUCED, NOT_REPRODUCED])
    adjusted = pd.Series(float("nan"), table.index)
    for after in (False, True):
        members = judged & (family == after)
        adjusted[members] = holm(table.loc[members, "p"].where(decided[members]))
    kept = table["verdict"].where(~decided | (adjusted <= LEVEL), NOT_DECIDED)
    return table.assign(holm=kept)


def _beside(table, protocol, shorter):
    """Note at C5b how its difference compares with that of the runs with fewer steps."""
    for at, case in DAMAGE.cases(protocol).items():
        long, short = (DAMAGE.numbers(runs, at) for runs in (protocol, shorter))
        found, more = mean_interval(short.dropna()), mean_interval((long - short).dropna())
        note = (
            f"at {shorter.total_steps:,} steps {show(found, 2)} points (n = {found.n}), "
            f"{protocol.total_steps:,} - {shorter.total_steps:,} steps {show(more, 2)} "
            f"(paired, n = {more.n})"
        )
        here = (table["claim"] == DAMAGE.name) & (table["case"] == case)
        table.loc[here, "note"] = [f"{n}; {note}" if n else note for n in table.loc[here, "note"]]
    return table
