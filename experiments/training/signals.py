"""SIGTERM and Ctrl-C: how processes that train hear of them, and how they end after them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPED = 75
"""Exit code after SIGTERM: EX_TEMPFAIL, to be tried again."""
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
STOP_SECONDS = 25
"""So long may runs take to write a checkpoint when they are told to stop: clusters wait 30."""


def exit_code(number: int) -> int:
    """Returns the exit code of a command that was stopped by a signal and may be given again."""
    return STOPPED if number == signal.SIGTERM else 130


@contextmanager
def told(tell: Callable[[int], None]) -> Iterator[None]:
    """Calls `tell` with each stop signal, in a thread of its own, and does nothing else at it.

    The main thread may be in compiled code for minutes, and would hear of nothing before.
    """
    hear, note = os.pipe()
    os.set_blocking(note, False)
    before = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
    fd_before = signal.set_wakeup_fd(note)

    def listen():
        while number := os.read(hear, 1):
            if number[0] in STOP_SIGNALS:
                tell(number[0])
        os.close(hear)

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(note)
