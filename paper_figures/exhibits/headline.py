"""The claims that tell a stranger whether the paper reproduces, in words: at most eight rows.

Each is a judgement of the verdict tables. One whose runs have not ended is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from paper_figures import claims
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import Protocol
from paper_figures.statistics import Estimate
from paper_figures.words import show

SECTION = Section("headline", "In short", first=True)


@dataclass(frozen=True)
class Row:
    """A judgement, by protocol, claim and case, and how a stranger is told of it.

    `difference` says in words what is compared, `text` what the claim is.
    """

    protocol: str
    claim: str
    case: str
    text: str
    difference: str


SHUFFLED = "the same images shuffled (the paper: i.i.d. ones) - BN"
ROWS = (
    Row("tiny_imagenet", "C1", "", "Over 32 examples BRN is as good as BN", "BRN - BN"),
    Row("tiny_imagenet", "C2", "", "Over only 4 BN loses accuracy", "BN over 32 - BN over 4"),
    Row("tiny_imagenet", "C3a", "", "Over 4 BRN wins part of it back", "BRN - BN"),
    Row("tiny_imagenet", "C5b", "4 x 8", "Minibatches of 4 labels x 8 images harm BN", SHUFFLED),
    Row(
        "omniglot_chain_long", "C5b", "16 x 2",
        "The paper's own 16 labels x 2 images harm BN, in a network of one path", SHUFFLED,
    ),
    Row("omniglot_chain_long", "C9c", "16 x 2", "There BRN is better than BN", "BRN - BN"),
    Row(
        "omniglot", "C5b", "16 x 2", "They harm BN in a network that has short paths, too", SHUFFLED
    ),
    Row(
        "omniglot_chain_depth_again", "D1", "",
        "The deeper a network of one path, the more they harm BN",
        "harm with 14 layers - harm with 5",
    ),
)  # fmt: skip


def exhibit(judged: dict[str, tuple[Protocol, pd.DataFrame]]) -> Iterator[Exhibit]:
    """Give the table, if any of its rows was judged.

    Args:
        judged: Name of a protocol -> its runs, and the judgement as `claims.judge` returns it.
    """
    shown = [found for row in ROWS if (found := _show(row, judged))]
    if not shown:
        return
    everything = pd.concat([table for _, table in judged.values()])
    words = (
        "BN is batch normalization, BRN Batch Renormalization; numbers are points of top-1 "
        "accuracy, the paper's read off its curves. A claim is reproduced if the whole 95 % "
        "interval over n seeds lies above its threshold."
    )
    count = (
        f"These are {len(shown)} of {claims.count_verdicts(everything)} Counted are those of the "
        "demonstrations on digits too, and those whose criteria came after the runs."
    )
    yield Exhibit(
        SECTION,
        "headline",
        "The paper's claims in short",
        tables={"claims": (Part(words, pd.DataFrame(shown)), Part(count))},
        claims=True,
    )


def _show(row, judged):
    """What a stranger reads of a row; `None` where it was not judged with enough seeds."""
    if row.protocol not in judged:
        return None
    protocol, table = judged[row.protocol]
    is_it = (table["claim"] == row.claim) & (table["case"] == row.case) & (table["verdict"] != "")
    if not (is_it & (table["n"] >= claims.FEWEST_SEEDS)).any():
        return None
    found = table[is_it].iloc[0]
    ours = Estimate(found["difference"], found["low"], found["high"], found["n"])
    verdict = found["verdict"]
    if found["holm"] != verdict:
        verdict += f"; {found['holm']} by Holm's correction"
    return {
        "claim": f"{row.text} ({row.difference} > {found['threshold']:g})",
        "on": f"{protocol.manifest['title']}, {found['epochs']:.0f} epochs",
        "the paper, at its end": _points(found["paper_end"]),
        "the paper, after as many epochs": _points(found["paper"]),
        "ours [95 % interval]": show(ours),
        "n": claims.seeds(found),
        "verdict": verdict,
    }


def _points(value):
    return "-" if pd.isna(value) else f"{value:z.1f}"
