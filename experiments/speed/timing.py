"""Times of functions that take turns, and ratios of them. Only numpy is needed here.

On a shared machine a single time says little: all functions run once a round, in an order drawn
anew for each, and a ratio is taken within each round.
"""

import cProfile
import ctypes
import sys
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A median between the quartiles around it."""

    median: float
    q25: float
    q75: float

    @classmethod
    def of(cls, values) -> "Spread":
        """Returns median and quartiles of some numbers."""
        q25, median, q75 = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(q25), float(q75))


def take_turns(
    functions: dict[Hashable, Callable[[], None]],
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Hashable, np.ndarray]:
    """Runs every function once a round; returns its times in seconds, shape `(rounds,)`.

    Args:
        functions: what to time, by name. Each returns when its work is done.
        rounds: how many times are taken of each.
        warm_up: calls of each before any time is taken; the first compiles.
        clock: where the time comes from.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    names = list(functions)
    times = {name: np.empty(rounds) for name in names}
    order = np.random.default_rng(0)
    for turn in range(rounds):
        for position in order.permutation(len(names)):
            name = names[position]
            start = clock()
            functions[name]()
            times[name][turn] = clock() - start
    return times


_KEEP_FREED = {"M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_MMAP_MAX": (-4, 0), "M_ARENA_MAX": (-8, 1)}
"""Options of glibc's `mallopt`, their numbers in `malloc.h`, and what to set them to."""


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that it frees; returns whether that could be had.

    glibc gives memory back to the system when twice the largest block lies free, which is as much
    as a pass over one layer frees: a few bytes then decide whether the next pass has to wait for
    new pages.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and all(mallopt(*option) == 1 for option in _KEEP_FREED.values())


def python_calls(function: Callable[[], None]) -> int:
    """Returns how many functions a function calls, of Python and built in, itself not counted."""
    function()  # what is done once only
    profile = cProfile.Profile()
    profile.runcall(function)
    return sum(entry.callcount for entry in profile.getstats()) - 2  # nor the profiler's end


def faster(times: dict[Hashable, np.ndarray], names: list[Hashable]) -> Hashable:
    """Returns that of the names whose median time is lowest."""
    return min(names, key=lambda name: np.median(times[name]))
