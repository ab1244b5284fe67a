"""How arms normalize: what, how many examples together, and within which bounds."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Bounds of r and d. Without arguments they are the paper's ramps, scaled to the run's length.

    Attributes:
        r_max, d_max: constant bounds; infinite for none.
        none_after: until this fraction of a run r is 1 and d is 0, which is batch normalization,
            and from there on nothing bounds them.

    Raises:
        ValueError: if one of `r_max` and `d_max` is missing, or `none_after` comes with them.
    """

    r_max: float | None = None
    d_max: float | None = None
    none_after: float | None = None

    def __post_init__(self):
        if (self.r_max is None) != (self.d_max is None) or (
            self.r_max is not None and self.none_after is not None
        ):
            raise ValueError(
                f"Expected r_max and d_max, or none_after, or nothing. Received: {self!r}"
            )

    def __str__(self):
        """As run files hold them: "paper", "<r_max>/<d_max>" or "none after <fraction>"."""
        if self.none_after is not None:
            return f"none after {self.none_after:g}"
        return "paper" if self.r_max is None else f"{self.r_max:g}/{self.d_max:g}"


UNBOUNDED = Bounds(math.inf, math.inf)

KINDS = ("bn", "brn", "gn", "constants")
"""Batch normalization, Batch Renormalization, group normalization (Wu & He 2018), and the averages
as constants, which the study of test-time statistics trains with."""


@dataclass(frozen=True)
class Normalization:
    """How a network normalizes.

    Attributes:
        kind: one of `KINDS`.
        group: examples normalized together, 32 for a worker's whole minibatch; nothing to "gn".
            `None` for all examples of a step, over all workers: synchronized normalization.
        bounds: of r and d, nothing to "bn" and "gn".

    Raises:
        ValueError: for another kind, or a group below 1.
    """

    kind: str
    group: int | None = 32
    bounds: Bounds = Bounds()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"Expected a normalization of {KINDS}. Received: kind={self.kind!r}")
        if self.group is not None and self.group < 1:
            raise ValueError(f"Expected a group of at least 1. Received: group={self.group}")

    def settings(self) -> dict:
        """Returns it as run files and tables hold it: a flat dict, ready for JSON."""
        return {"normalization": self.kind, "bounds": str(self.bounds), "group": self.group}
