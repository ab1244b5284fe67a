"""Progress: a line that is redrawn, or a line a minute; the time left is of this command's pace."""

import dataclasses
import io

import pytest

from experiments.grid.runs import protocol_named, select_runs
from experiments.training.display import Display

pytestmark = pytest.mark.any_backend

PROTOCOL = dataclasses.replace(protocol_named("digits"), steps=300)
FIRST, SECOND, THIRD = select_runs(PROTOCOL, ["bn-32"], [0, 1, 2])


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


def shown(stream, clock):
    display = Display(stream, clock)
    display.total = 900
    return display


def test_a_log_gets_a_line_a_minute(clock):
    log = io.StringIO()
    display = shown(log, clock)
    display.step(FIRST, 0)
    for second in range(1, 181):
        clock.now = second
        display.step(FIRST, second)
        display.refresh()
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[-1].endswith("20% 180/900 steps, 0:12:00 left; digits-bn-32-s0 at 180")
    assert "\r" not in log.getvalue()


def test_a_run_is_as_long_as_its_arm_makes_it(clock):
    arm = dataclasses.replace(FIRST.arm, changes={"steps": 100})
    display = shown(io.StringIO(), clock)
    display.step(dataclasses.replace(FIRST, arm=arm), 0)
    display.ended(dataclasses.replace(FIRST, arm=arm), "finished")
    assert display.line().startswith(" 11% 100/900 steps")


def test_a_terminal_gets_one_line_that_is_redrawn(clock):
    terminal = Terminal()
    display = shown(terminal, clock)
    for second in range(1, 4):
        clock.now = second
        display.refresh()
    display.write("done")
    assert terminal.getvalue().count("\r\x1b[K") == 4
    assert terminal.getvalue().endswith("\r\x1b[Kdone\n")


def test_the_time_left_counts_neither_what_was_trained_before_nor_what_others_train(clock):
    display = shown(io.StringIO(), clock)
    display.step(FIRST, 290)  # from a checkpoint
    clock.now = 100  # compiling
    display.step(FIRST, 291)
    assert "time left unknown" in display.line()
    clock.now = 110
    display.step(FIRST, 296)  # 2 seconds a step
    assert display.line().startswith(" 32% 296/900 steps, 0:20:08 left")
    display.ended(SECOND, "busy")
    assert display.line().startswith(" 49% 296/600 steps, 0:10:08 left")
    display.ended(FIRST, "finished")
    clock.now = 118
    assert display.line().startswith(" 50% 300/600 steps, 0:10:00 left; no run")
    display.step(THIRD, 0)
    display.step(THIRD, 1)
    display.ended(THIRD)  # failed
    assert display.line().startswith("100% 301/301 steps")
