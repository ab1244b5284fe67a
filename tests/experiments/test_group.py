"""Processes find each other, talk, and end together when one is lost: real ones, without a backend.

Each is a Python that imports nothing but the standard library, so a drill takes a second.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.training.group import _stuck

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from experiments.training import group as module
from experiments.training.launchers import Place

module.START, module.SILENCE, module.STUCK, module._BEAT = 4.0, 2.0, 3.0, 0.1
port, size, rank, task, body = sys.argv[1:]
sys.argv[1:] = ["run", "--process", rank]
rank = int(rank)
try:
    group = module.Group(Place("localhost", int(port), int(size), rank), task)
except ValueError as error:
    sys.exit(f"refused: {error}")
print("met", flush=True)
exec(body)
group.leave()
"""


def start(port, size, rank, body="", task="a task"):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port), str(size), str(rank), task, body],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def port():
    with socket.create_server(("localhost", 0)) as free:
        return free.getsockname()[1]


def ends(processes, within=30):
    """Returns exit code and standard error of each process."""
    deadline = time.monotonic() + within
    found = []
    for process in processes:
        out, error = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
        found.append((process.returncode, out, error))
    return found


def met(processes):
    for process in processes:
        assert process.stdout.readline() == "met\n"


def test_what_each_says_reaches_everyone_and_the_leaders_word_all(port):
    body = "print(group.everyone([rank]), group.first(b'go' if rank == 0 else None))"
    for code, out, error in ends([start(port, 3, rank, body) for rank in range(3)]):
        assert (code, error) == (0, "")
        assert out == "met\n[[0], [1], [2]] b'go'\n"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_killed_process_is_named_by_every_survivor_with_the_command_to_go_on(port, lost):
    processes = [start(port, 3, rank, "import time; time.sleep(60)") for rank in range(3)]
    met(processes)
    processes[lost].send_signal(signal.SIGKILL)
    found = ends(processes)
    for rank, (code, _, error) in enumerate(found):
        if rank == lost:
            assert code == -signal.SIGKILL
            continue
        assert code == 1
        (line,) = error.strip().splitlines()
        assert f"process {lost} of 3 ({socket.gethostname()}, pid {processes[lost].pid})" in line
        assert f"python -m experiments run --process {rank} " in line


@pytest.mark.parametrize("still", [0, 1])
def test_a_silent_process_is_lost(port, still):
    processes = [
        start(port, 2, rank, "group.everyone(rank); group.everyone(rank)") for rank in (1,)
    ]
    processes.insert(0, start(port, 2, 0, "import time; time.sleep(60)"))
    met(processes)
    os.kill(processes[still].pid, signal.SIGSTOP)
    try:
        ((code, _, error),) = ends([processes[1 - still]])
    finally:
        processes[still].kill()
        processes[still].communicate()
    assert code == 1
    assert f"process {still} of 2" in error
    assert "not been heard of for 2 s" in error


def test_a_process_that_lives_but_is_stuck_is_found_by_those_who_wait_for_it(port):
    body = "group.moved(7)\nimport time\nif rank == 1: time.sleep(60)\ngroup.everyone(rank)"
    processes = [start(port, 3, rank, body) for rank in range(3)]
    for code, _, error in ends(processes):
        assert code == 1
        assert "process 1 of 3 has been stuck at step 7 for 3 s" in error


def test_who_is_stuck_is_told_from_those_who_wait():
    assert "process 2 of 3 has been stuck at step 4" in _stuck(
        {0: [5, 9, False], 1: [5, 9, False], 2: [4, 8, False]}
    )
    assert "process 0, 2 of 3" in _stuck({0: [5, 1, False], 1: [5, 2, True], 2: [5, 1, False]})
    assert "no process has moved" in _stuck({0: [5, 1, False], 1: [5, 1, False]})


@pytest.mark.parametrize("missing", [0, 2])
def test_who_does_not_come_is_named(port, missing):
    processes = [start(port, 3, rank) for rank in range(3) if rank != missing]
    for code, _, error in ends(processes):
        assert code == 1
        assert f"process {missing} of 3" in error


def test_an_error_of_one_ends_all_and_is_told_by_all(port):
    body = "if rank == 1: group.fail(ValueError('no data here'))\ngroup.everyone(rank)"
    for code, _, error in ends([start(port, 2, rank, body) for rank in range(2)]):
        assert code == 1
        assert "process 1 of 2 failed: no data here" in error


def test_processes_started_with_different_tasks_are_refused(port):
    processes = [start(port, 2, rank, task=f"task {rank}") for rank in range(2)]
    for code, _, error in ends(processes):
        assert code == 1
        assert "task='task 1' of process 1, and of process 0 task='task 0'" in error


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        ((code, _, error),) = ends([start(port, 2, 0)])
    assert code == 1
    assert f"Received: --coordinator localhost:{port}" in error
