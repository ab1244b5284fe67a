"""Who is stuck: each process of a group says how far it is, and somebody must move."""

import time

STUCK = 900.0
"""Seconds in which some process must move: end a step, or evaluate a few images."""
COMPILED = 3600.0
"""The same where a process has not ended its first step of a run, and so may load data, build the
network or compile."""


class Watch:
    """How far all processes are, and since when that is so.

    Args:
        rank: which process this is.
        size: how many there are.

    Attributes:
        mine: how far this process is: its training step, how often it has moved in this run, and
            whether it waits for others.
        all: the same of each process that was heard of, by rank; all for who leads.
    """

    def __init__(self, rank: int, size: int):
        self.mine = [0, 0, False]
        self.all = {other: [0, 0, False] for other in range(size)}
        self.all[rank] = self.mine
        self._since, self._before = time.monotonic(), None

    def begins(self) -> None:
        """Says that a run begins, of which this process has not made a step."""
        self.mine[:2] = 0, 0

    def moved(self, step: int | None) -> None:
        """Says that this process is not stuck, and at which step it is if that is another one."""
        self.mine[0] = self.mine[0] if step is None else step
        self.mine[1] += 1

    def stuck(self) -> str | None:
        """Returns who is stuck, in words, if nobody has moved for too long."""
        now = {rank: list(state) for rank, state in self.all.items()}
        if now != self._before:
            self._since, self._before = time.monotonic(), now
        seconds = limit(now)
        return in_words(now, seconds) if time.monotonic() - self._since > seconds else None


def limit(states: dict[int, list]) -> float:
    """Returns the seconds in which some process must move."""
    begins = any(step <= 1 or moves <= 1 for step, moves, _ in states.values())
    return COMPILED if begins else STUCK


def in_words(states: dict[int, list], seconds: float) -> str:
    """Returns which processes the others wait for: the last step, and not waiting for others."""
    last = min(state[0] for state in states.values())
    late = [rank for rank, state in states.items() if state[0] == last]
    late = [rank for rank in late if not states[rank][2]] or late
    where = f"at step {last}" if last else "before the first step, where data are loaded,"
    if len(late) == len(states):
        return f"no process has moved for {seconds:.0f} s, all {where.rstrip(',')}"
    names = ", ".join(map(str, sorted(late)))
    return f"process {names} of {len(states)} has been stuck {where} for {seconds:.0f} s"
