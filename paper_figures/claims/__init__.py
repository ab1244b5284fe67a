"""The paper's claims: criteria, verdicts by them, and how these are shown."""

from paper_figures.claims.shown import HOLM, count_verdicts, parts, seeds, show
from paper_figures.claims.verdicts import FEWEST_SEEDS, SHORTER, applies, judge

__all__ = [
    "FEWEST_SEEDS",
    "HOLM",
    "SHORTER",
    "applies",
    "count_verdicts",
    "judge",
    "parts",
    "seeds",
    "show",
]
