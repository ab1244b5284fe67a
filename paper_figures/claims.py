"""Verdicts on the paper's claims, by the criteria of `criteria.py`.

With the 95 % t interval (low, high) of the mean of a claim's numbers, it is *reproduced* if
low > threshold, *not reproduced* if high <= threshold, else *not decided*; with fewer than three
seeds it is not decided.
"""

import pandas as pd

from paper_figures.criteria import CLAIMS
from paper_figures.load import OWN, Scale, describe_runs
from paper_figures.statistics import Estimate

REPRODUCED, NOT_REPRODUCED, NOT_DECIDED = "reproduced", "not reproduced", "not decided"
FEWEST_SEEDS = 3
DAMAGE = next(claim for claim in CLAIMS if claim.name == "C5b")
STEP = ("training step, BRN / BN", "32x32x3")
"""Name of the benchmark's ratio, and the shape of its images, for claim C12."""
STEP_BAR = 1.03


def applies(scale: Scale) -> bool:
    """Whether the scale has the arms that tell what normalization does, C5b's."""
    return _runs(scale, DAMAGE)


def verdict(estimate: Estimate, threshold: float) -> str:
    """Hold the interval of a mean against a threshold that it should be above."""
    if estimate.n < FEWEST_SEEDS:
        return NOT_DECIDED
    if estimate.low > threshold:
        return REPRODUCED
    return NOT_REPRODUCED if estimate.high <= threshold else NOT_DECIDED


def with_damage(own: str, damage: str) -> str:
    """The verdict on a claim that only means something where there is damage (C5b).

    If C5b is not reproduced, the claim is not decided. If C5b is not decided, the claim cannot be
    reproduced; that it is not reproduced stands.
    """
    undecided = damage == NOT_REPRODUCED or (damage == NOT_DECIDED and own == REPRODUCED)
    return NOT_DECIDED if undecided else own


def judge(scale: Scale, ratios: pd.DataFrame | None = None) -> pd.DataFrame:
    """Judge every claim whose arms the scale runs; C12, which is about a step, beside C1.

    Args:
        scale: The runs.
        ratios: The benchmarks' ratios, as `speed.load_speed` reads them.

    Returns:
        One row a claim and case, a structure of non-i.i.d. minibatches or, for C12, a backend:
        `claim, text, case, criterion, unit, difference, low, high, threshold, n, expected` (seeds
        in the grid), `verdict` and `note`.
    """
    rows = []
    damage = {at: verdict(DAMAGE.estimate(scale, at), DAMAGE.threshold) for at in scale.structures}
    for claim in CLAIMS:
        for at in scale.structures if claim.structured else [OWN]:
            if _runs(scale, claim, at):
                rows.append(_judge(claim, scale, at, damage[at]))
    if _runs(scale, CLAIMS[0]):
        rows += _judge_speed(ratios)
    return pd.DataFrame(rows)


def _runs(scale, claim, at=OWN):
    """Whether the scale has the arms of a claim, run already or not."""
    return {arm.format(at) for arm in claim.arms} <= set(scale.arms)


def _judge(claim, scale, at, damage):
    arms = [arm.format(at) for arm in claim.arms]
    estimate = claim.estimate(scale, at)
    own = verdict(estimate, claim.threshold)
    final = with_damage(own, damage) if claim.needs_damage else own
    missing = {arm: scale.missing[arm] for arm in arms if arm in scale.missing}
    notes = [f"missing: {describe_runs(missing)}"] if missing else []
    notes += [f"{arm}: {len(scale.diverged(arm))} diverged" for arm in arms if scale.diverged(arm)]
    notes += [f"{own} by its own numbers, but C5b is {damage}"] if final != own else []
    if claim.assumes_damage and damage != REPRODUCED:
        notes.append(f"C5b is {damage}: there may be nothing to repair")
    return {
        "claim": claim.name,
        "text": claim.text,
        "case": scale.structures[at] if claim.structured else "",
        "criterion": claim.criterion.replace("{}", at),
        "unit": claim.unit,
        "difference": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "threshold": claim.threshold,
        "n": estimate.n,
        "expected": len(set.intersection(*(_seeds(scale, arm) for arm in arms))),
        "verdict": final,
        "note": "; ".join(notes),
    }


def _seeds(scale, arm):
    there = scale.runs.loc[scale.runs["arm"] == arm, "seed"]
    return {*there, *scale.missing.get(arm, [])}


def _judge_speed(ratios):
    """Claim C12, for each backend: the interval is that of the quartiles."""
    row = {
        "claim": "C12",
        "text": "BRN runs at BN's speed",
        "case": "",
        "criterion": f"{STEP_BAR} - time of a training step, BRN / BN, >= 0 (interval: quartiles)",
        "unit": "ratio",
        "threshold": 0.0,
        "n": 0,
        "expected": 0,
    }
    measured = []
    if ratios is not None:
        name, images = STEP
        shapes = ratios["shape"].str.endswith(images)
        measured = list(ratios[(ratios["name"] == name) & shapes].itertuples())
    for ratio in measured:
        above = NOT_REPRODUCED if ratio.q25 > STEP_BAR else NOT_DECIDED
        yield {
            **row,
            "case": ratio.backend,
            "difference": STEP_BAR - ratio.ratio,
            "low": STEP_BAR - ratio.q75,
            "high": STEP_BAR - ratio.q25,
            "verdict": REPRODUCED if ratio.q75 <= STEP_BAR else above,
            "note": f"a step of {ratio.shape}: BRN / BN {ratio.ratio:.3f} "
            f"({ratio.q25:.3f} to {ratio.q75:.3f})",
        }
    if not measured:
        yield {**row, "verdict": NOT_DECIDED, "note": "no benchmark of a training step"}


def show(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the judgement into what a reader sees, all strings."""

    def row(claim):
        digits = {"points": 2, "ratio": 3, "steps": 0, "spikes": 1}[claim["unit"]]
        difference = "-"
        if pd.notna(claim["difference"]):
            difference = f"{claim['difference']:z.{digits}f}"
        if pd.notna(claim["low"]):
            difference += f" ({claim['low']:z.{digits}f} to {claim['high']:z.{digits}f})"
        n = f"{claim['n']} of {claim['expected']}" if claim["n"] < claim["expected"] else claim["n"]
        name = f"{claim['claim']}, {claim['case']}" if claim["case"] else claim["claim"]
        return {
            "claim": name,
            "the paper says": claim["text"],
            "criterion": claim["criterion"],
            "ours (95 % interval)": f"{difference} {claim['unit']}" if difference != "-" else "-",
            "n": "-" if claim["claim"] == "C12" else n,
            "verdict": claim["verdict"],
            "note": claim["note"],
        }

    return pd.DataFrame([row(claim) for _, claim in table.iterrows()]).astype(str)


def to_csv(table: pd.DataFrame) -> str:
    """Write the judgement as CSV, numbers to four decimals."""
    return table.to_csv(index=False, float_format="%.4f", lineterminator="\n")


def count_verdicts(table: pd.DataFrame) -> str:
    """Say how many judgements there are of each kind."""
    counts = table["verdict"].value_counts()
    parts = [f"{counts.get(kind, 0)} {kind}" for kind in (REPRODUCED, NOT_REPRODUCED, NOT_DECIDED)]
    return f"{len(table)} judgements: {', '.join(parts)}"
