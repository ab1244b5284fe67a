"""The paper's claims: criteria, verdicts by them, and how these are shown."""

from paper_figures.claims.shown import HOLM, count_verdicts, parts, show
from paper_figures.claims.verdicts import SHORTER, applies, judge

__all__ = ["HOLM", "SHORTER", "applies", "count_verdicts", "judge", "parts", "show"]
