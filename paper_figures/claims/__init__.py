"""The paper's claims: criteria, verdicts by them, and how these are shown."""

from paper_figures.claims.shown import count_verdicts, parts, show, to_csv, to_markdown
from paper_figures.claims.verdicts import SHORTER, applies, judge

__all__ = [
    "SHORTER",
    "applies",
    "count_verdicts",
    "judge",
    "parts",
    "show",
    "to_csv",
    "to_markdown",
]
