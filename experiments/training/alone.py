"""One process by itself, which computes as a group of processes does that has one member.

What trains, measures and evaluates talks to a `group.Group` or to this, and need not know which.
"""

from contextlib import contextmanager


class Alone:
    """One process by itself: what a `Group` is to those who do not care."""

    rank, size = 0, 1

    def everyone(self, value) -> list:
        """Returns the values that all processes give, by rank."""
        return [value]

    def moved(self, step: int | None = None) -> None:
        """Says that this process is not stuck."""

    @contextmanager
    def together(self):
        """Surrounds what fails in every process when one is lost."""
        yield


ALONE = Alone()
