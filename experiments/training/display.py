"""How far the runs of a command are: one line that is redrawn, or a line a minute in a log."""

import shutil
import sys
import time
from typing import IO

from experiments.grid.runs import Run

REDRAWN_SECONDS, LOGGED_SECONDS = 0.5, 60


class Display:
    """Shows the runs of a command.

    The time left is that of the steps left at the pace of the steps trained since the first one
    of this command: what was trained before, and runs that others train, are not counted in.

    Args:
        stream: where to; a terminal gets one line that is redrawn, anything else a line a minute.
        clock: seconds that only grow.
    """

    def __init__(self, stream: IO[str] | None = None, clock=time.monotonic):
        self.total = 0
        self._stream, self._clock = stream or sys.stderr, clock
        self._redrawn = self._stream.isatty()
        self._steps: dict[Run, int] = {}
        self._trained, self._done = 0, 0
        self._began = self._last = clock()
        self._paced = False

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *_) -> None:
        self._clear()

    def step(self, run: Run, step: int) -> None:
        """Notes that a run is at a step: the first time, that is where it begins."""
        if run in self._steps:
            if not self._paced:  # what came before the first step was loading and compiling
                self._paced, self._began = True, self._clock()
            else:
                self._trained += step - self._steps[run]
        else:
            self._done += step
        self._done += step - self._steps.get(run, step)
        self._steps[run] = step

    def ended(self, run: Run, how: str = "") -> None:
        """Notes that a run has ended; how: "finished" or "diverged", anything else if not."""
        if how in ("finished", "diverged"):
            self.step(run, run.steps)
        else:
            self.total -= run.steps - self._steps.get(run, 0)
        self._steps.pop(run, None)

    def write(self, line: str) -> None:
        """Writes a line that stays."""
        self._clear()
        print(line, file=self._stream, flush=True)
        if self._redrawn:
            self._last = float("-inf")

    def refresh(self) -> None:
        """Shows how far the runs are, if it is time to."""
        now = self._clock()
        if now - self._last < (REDRAWN_SECONDS if self._redrawn else LOGGED_SECONDS):
            return
        self._last = now
        if self._redrawn:
            self._clear()
            width = shutil.get_terminal_size().columns - 1
            print(self.line()[:width], end="", file=self._stream, flush=True)
        else:
            print(f"{time.strftime('%H:%M:%S')} {self.line()}", file=self._stream, flush=True)

    def line(self) -> str:
        """Returns how far the runs are, in words."""
        percent = 100 * self._done // self.total if self.total else 0
        left = "time left unknown"
        if self._trained:
            pace = (self._clock() - self._began) / self._trained
            left = f"{_clock_time(pace * (self.total - self._done))} left"
        at = ", ".join(f"{run.id} at {step}" for run, step in self._steps.items())
        return f"{percent:3}% {self._done}/{self.total} steps, {left}; {at or 'no run under way'}"

    def _clear(self):
        if self._redrawn:
            print("\r\x1b[K", end="", file=self._stream, flush=True)


def _clock_time(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
